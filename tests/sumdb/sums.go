package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
)

// sums computes the hashes of a version that upstream has. Where it has only the go.mod, as trees of
// the go command often do, the zip's hash is made up. The lock is held.
func (db *database) sums(m module.Version) (zipSum, modSum string, err error) {
	goMod, err := db.read(m, ".mod")
	if err != nil {
		return "", "", err
	}
	if db.wrong["mod "+m.String()] {
		goMod = append(goMod, "// wrong\n"...)
	}
	if modSum, err = hash([]string{"go.mod"}, map[string][]byte{"go.mod": goMod}); err != nil {
		return "", "", err
	}
	archive, err := db.read(m, ".zip")
	switch {
	case errors.Is(err, fs.ErrNotExist) || db.wrong["zip "+m.String()]:
		zipSum, err = hash([]string{"none"}, map[string][]byte{"none": []byte(m.String())})
	case err == nil:
		zipSum, err = hashZip(archive)
	}
	return zipSum, modSum, err
}

// read reads one of a version's files. A file that upstream doesn't have is fs.ErrNotExist.
func (db *database) read(m module.Version, suffix string) ([]byte, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return nil, err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return nil, err
	}
	place := fmt.Sprintf("/%s/@v/%s%s", path, version, suffix)
	if folder, ok := strings.CutPrefix(db.upstream, "file://"); ok {
		return os.ReadFile(folder + place)
	}
	response, err := http.Get(db.upstream + place)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return io.ReadAll(response.Body)
	case http.StatusNotFound, http.StatusGone:
		return nil, fs.ErrNotExist
	}
	return nil, fmt.Errorf("%s%s: %s", db.upstream, place, response.Status)
}

func hashZip(archive []byte) (string, error) {
	reader, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return "", err
	}
	var names []string
	files := map[string]*zip.File{}
	for _, file := range reader.File {
		names = append(names, file.Name)
		files[file.Name] = file
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
}

func hash(names []string, files map[string][]byte) (string, error) {
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files[name])), nil
	})
}
