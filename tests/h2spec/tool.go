//go:build tool

// Names what tests/h2spec.rs runs, so that go.mod and go.sum pin it.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"
