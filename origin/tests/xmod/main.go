// Command xmod says what golang.org/x/mod makes of module zips. Each input line is one question in
// JSON; each output line is "no" and the reason, or "ok" and a result.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

type question struct {
	Op      string
	Path    string // of a file: the zip to check
	Module  string
	Version string
	Files   []file
}

// A file to put into a zip.
type file struct {
	Name    string
	Mode    uint32 // as fs.FileMode has it
	Size    int64
	Content []byte // in base64; zeros up to Size follow
}

func (f file) Path() string                { return f.Name }
func (f file) Lstat() (fs.FileInfo, error) { return info{f}, nil }
func (f file) Open() (io.ReadCloser, error) {
	zeros := io.LimitReader(zero{}, f.Size-int64(len(f.Content)))
	return io.NopCloser(io.MultiReader(strings.NewReader(string(f.Content)), zeros)), nil
}

type zero struct{}

func (zero) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

type info struct{ file file }

func (i info) Name() string       { return path.Base(i.file.Name) }
func (i info) Size() int64        { return i.file.Size }
func (i info) Mode() fs.FileMode  { return fs.FileMode(i.file.Mode) }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return nil }

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	decoder := json.NewDecoder(in)
	for {
		var q question
		if err := decoder.Decode(&q); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		result, err := answer(q)
		if err != nil {
			reason := strings.Join(strings.Fields(err.Error()), " ")
			fmt.Fprintf(out, "no %q\n", reason)
		} else {
			fmt.Fprintf(out, "ok %s\n", result)
		}
	}
}

func answer(q question) (string, error) {
	switch q.Op {
	case "check":
		return check(q)
	case "create":
		return create(q)
	case "hash":
		return dirhash.HashZip(q.Path, dirhash.Hash1)
	case "fold":
		return folds(), nil
	}
	log.Fatalf("unknown operation %q", q.Op)
	return "", nil
}

// check does all that the go command does with a zip that came from a proxy.
func check(q question) (string, error) {
	m := module.Version{Path: q.Module, Version: q.Version}
	if _, err := zip.CheckZip(m, q.Path); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "modzip")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := zip.Unzip(filepath.Join(dir, "x"), m, q.Path); err != nil {
		return "", err
	}
	return dirhash.HashZip(q.Path, dirhash.Hash1)
}

// create makes a zip, and says its hash.
func create(q question) (string, error) {
	m := module.Version{Path: q.Module, Version: q.Version}
	out, err := os.CreateTemp("", "modzip")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	var files []zip.File
	for _, f := range q.Files {
		files = append(files, f)
	}
	if err := zip.Create(out, m, files); err != nil {
		return "", err
	}
	return dirhash.HashZip(out.Name(), dirhash.Hash1)
}

// folds says, in hexadecimal, of which least character each letter is a case.
func folds() string {
	var all []string
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) {
			continue
		}
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		all = append(all, fmt.Sprintf("%x:%x", r, least))
	}
	return strings.Join(all, " ")
}
