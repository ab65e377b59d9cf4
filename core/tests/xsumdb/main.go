// Command xsumdb says what golang.org/x/mod makes of notes, tree heads, records, logs and the contents
// of modules. Each input line is an operation and its arguments in hexadecimal, separated by tabs;
// each output line is "no", or "ok" and a result.
package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		fields := strings.Split(in.Text(), "\t")
		var args []string
		for _, field := range fields[1:] {
			arg, err := hex.DecodeString(field)
			if err != nil {
				log.Fatal(err)
			}
			args = append(args, string(arg))
		}
		if result, ok := judge(fields[0], args); ok {
			fmt.Fprintln(out, "ok", result)
		} else {
			fmt.Fprintln(out, "no")
		}
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
}

func judge(op string, args []string) (result string, ok bool) {
	switch op {
	case "key": // verifier key
		verifier, err := note.NewVerifier(args[0])
		if err != nil {
			return "", false
		}
		return fmt.Sprintf("%x", verifier.Name()), true
	case "sign": // seed, name, text: a verifier key and a note
		return sign(args[0], args[1], args[2]), true
	case "note": // verifier key, note: its text
		verifier, err := note.NewVerifier(args[0])
		if err != nil {
			return "", false
		}
		opened, err := note.Open([]byte(args[1]), note.VerifierList(verifier))
		if err != nil {
			return "", false
		}
		return fmt.Sprintf("%x", opened.Text), true
	case "head": // text: size and hash
		tree, err := tlog.ParseTree([]byte(args[0]))
		return fmt.Sprint(tree.N, tree.Hash), err == nil
	case "record": // a lookup's answer: its parts
		id, text, rest, err := tlog.ParseRecord([]byte(args[0]))
		return fmt.Sprintf("%d %x %x", id, text, rest), err == nil && id >= 0
	case "tiles": // size, then levels and numbers of nodes: the root, the tiles to read, the nodes' hashes
		return readTiles(number(args[0]), args[1:], "", 0)
	case "flipped": // size, level, number, tile, byte: the same with one bit of a tile flipped
		return readTiles(number(args[0]), args[1:3], args[3], number(args[4]))
	case "h1": // names and contents of files
		hash, err := dirhash.Hash1(names(args), func(name string) (io.ReadCloser, error) {
			for i := 0; i < len(args); i += 2 {
				if args[i] == name {
					return io.NopCloser(strings.NewReader(args[i+1])), nil
				}
			}
			return nil, errors.New("no such file")
		})
		return hash, err == nil
	}
	log.Fatalf("unknown operation %q", op)
	return "", false
}

func sign(seed, name, text string) string {
	secret, public, err := note.GenerateKey(strings.NewReader(strings.Repeat(seed, 64)), name)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		log.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		log.Fatal(err)
	}
	return fmt.Sprintf("%s %x", public, signed)
}

func names(args []string) []string {
	var names []string
	for i := 0; i < len(args); i += 2 {
		names = append(names, args[i])
	}
	return names
}

func number(arg string) int64 {
	n, err := strconv.ParseInt(arg, 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

// hashes are those of a log of the records "record 0\n", "record 1\n" and so on.
var hashes []tlog.Hash

var records int64

func readHashes(size int64) tlog.HashReaderFunc {
	read := func(indexes []int64) (list []tlog.Hash, err error) {
		for _, index := range indexes {
			list = append(list, hashes[index])
		}
		return list, nil
	}
	for ; records < size; records++ {
		text := fmt.Sprintf("record %d\n", records)
		more, err := tlog.StoredHashes(records, []byte(text), tlog.HashReaderFunc(read))
		if err != nil {
			log.Fatal(err)
		}
		hashes = append(hashes, more...)
	}
	return read
}

func readTiles(size int64, nodes []string, flipped string, at int64) (result string, ok bool) {
	root, err := tlog.TreeHash(size, readHashes(size))
	if err != nil {
		log.Fatal(err)
	}
	var indexes []int64
	for i := 0; i < len(nodes); i += 2 {
		indexes = append(indexes, tlog.StoredHashIndex(int(number(nodes[i])), number(nodes[i+1])))
	}
	reader := &reader{size: size, flipped: flipped, at: at}
	read, err := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, reader).ReadHashes(indexes)
	if err != nil {
		return "", false
	}
	return fmt.Sprintf("%v %s %v", root, strings.Join(reader.read, " "), read), true
}

type reader struct {
	size    int64
	flipped string
	at      int64
	read    []string
}

func (r *reader) Height() int { return 8 }

func (r *reader) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		bytes, err := tlog.ReadTileData(tile, readHashes(r.size))
		if err != nil {
			return nil, err
		}
		if tile.Path() == r.flipped {
			bytes[r.at%int64(len(bytes))] ^= 1
		}
		data = append(data, bytes)
		r.read = append(r.read, fmt.Sprintf("%s=%x", tile.Path(), bytes))
	}
	return data, nil
}

func (r *reader) SaveTiles(tiles []tlog.Tile, data [][]byte) {}
