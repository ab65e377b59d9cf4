//go:build tool

// Names the S3 server of the tests, so that go.mod and go.sum pin it.
package s3server

import _ "github.com/versity/versitygw/cmd/versitygw"
