// Command sumdb is a checksum database for tests: golang.org/x/mod's server over a log in memory,
// signed with a key of its own, whose records are computed from a GOPROXY tree. It lies on command.
//
// It prints one line, its verifier key and its URL, then reads commands from standard input and
// answers each with a line that begins with "ok". It ends when standard input does.
//
//	wrong-zip MODULE@VERSION   its record will have another hash of the zip
//	wrong-mod MODULE@VERSION   its record will have another hash of the go.mod
//	grow N                     adds N records of nothing
//	shrink N                   forgets all records but the first N
//	fork                       another log of the same size, signed with the same key
//	fail STATUS                everything is answered with that status
//	stall                      nothing is answered
//	flip LEVEL                 one bit is flipped in the tiles of that level
//	empty                      lookups are answered with nothing
//	unrelated                  lookups are answered with the record of something else
//	honest                     none of the last five any more
//	requests                   how many there were: "ok N"
//
// The database answers at its URL and, as a module proxy that passes it on, below /sumdb/NAME/.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	name := flag.String("name", "sum.test", "the database's name")
	upstream := flag.String("upstream", "", "a GOPROXY: file:///folder or http://address")
	padding := flag.Int("padding", 600, "how many records of nothing the log begins with")
	flag.Parse()

	secret, key, err := note.GenerateKey(rand.Reader, *name)
	if err != nil {
		log.Fatal(err)
	}
	db := &database{secret: secret, upstream: *upstream, wrong: map[string]bool{}}
	db.restart("padding", *padding)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &server{db: db, name: *name, honest: sumdb.NewServer(db)}
	go http.Serve(listener, server)
	fmt.Printf("%s http://%s\n", key, listener.Addr())
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		fmt.Println("ok", server.obey(strings.Fields(commands.Text())))
	}
}

// database holds the log. It implements sumdb.ServerOps.
type database struct {
	secret   string
	upstream string

	mu      sync.Mutex
	records [][]byte
	hashes  []tlog.Hash
	lookup  map[string]int64
	wrong   map[string]bool // "zip MODULE@VERSION", "mod MODULE@VERSION"
}

// ReadHashes implements tlog.HashReader. The lock is held.
func (db *database) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, index := range indexes {
		if index >= int64(len(db.hashes)) {
			return nil, os.ErrNotExist
		}
		list = append(list, db.hashes[index])
	}
	return list, nil
}

func (db *database) Signed(ctx context.Context) ([]byte, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	size := int64(len(db.records))
	hash, err := tlog.TreeHash(size, db)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(db.secret)
	if err != nil {
		return nil, err
	}
	head := tlog.FormatTree(tlog.Tree{N: size, Hash: hash})
	return note.Sign(&note.Note{Text: string(head)}, signer)
}

func (db *database) ReadRecords(ctx context.Context, id, n int64) ([][]byte, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if id+n > int64(len(db.records)) {
		return nil, os.ErrNotExist
	}
	return db.records[id : id+n], nil
}

func (db *database) Lookup(ctx context.Context, m module.Version) (int64, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if id, ok := db.lookup[m.String()]; ok {
		return id, nil
	}
	zip, mod, err := db.sums(m)
	if err != nil {
		return 0, err
	}
	text := fmt.Sprintf("%s %s %s\n%s %s/go.mod %s\n", m.Path, m.Version, zip, m.Path, m.Version, mod)
	id := int64(len(db.records))
	db.push([]byte(text))
	db.lookup[m.String()] = id
	return id, nil
}

func (db *database) ReadTileData(ctx context.Context, t tlog.Tile) ([]byte, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return tlog.ReadTileData(t, db)
}

// push adds a record. The lock is held.
func (db *database) push(record []byte) {
	more, err := tlog.StoredHashes(int64(len(db.records)), record, db)
	if err != nil {
		log.Fatal(err)
	}
	db.records = append(db.records, record)
	db.hashes = append(db.hashes, more...)
}

// restart begins another log.
func (db *database) restart(word string, padding int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.records, db.hashes, db.lookup = nil, nil, map[string]int64{}
	db.pad(word, padding)
}

// pad adds records of nothing. The lock is held.
func (db *database) pad(word string, count int) {
	for i := 0; i < count; i++ {
		db.push([]byte(fmt.Sprintf("%s %d\n", word, len(db.records))))
	}
}

// shrink forgets all but the first records.
func (db *database) shrink(count int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	kept := db.records[:count]
	db.records, db.hashes = nil, nil
	for _, record := range kept {
		db.push(record)
	}
	for key, id := range db.lookup {
		if id >= int64(count) {
			delete(db.lookup, key)
		}
	}
}

// server answers from the database, or lies.
type server struct {
	db       *database
	name     string
	honest   http.Handler
	requests atomic.Int64

	mu    sync.Mutex
	lie   []string
	ended chan struct{} // closed when a stall ends
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	lie, ended := s.lie, s.ended
	s.mu.Unlock()
	path, passedOn := strings.CutPrefix(r.URL.Path, "/sumdb/"+s.name)
	r.URL.Path = path
	switch {
	case len(lie) == 0:
	case lie[0] == "stall":
		select {
		case <-ended:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case lie[0] == "fail":
		http.Error(w, "told to fail", number(lie[1]))
		return
	case lie[0] == "empty" && strings.HasPrefix(path, "/lookup/"):
		w.Header().Set("Content-Length", "0")
		return
	case lie[0] == "unrelated" && strings.HasPrefix(path, "/lookup/"):
		s.answerWithFirst(w, r)
		return
	case lie[0] == "flip" && strings.HasPrefix(path, "/tile/8/"+lie[1]+"/"):
		s.honest.ServeHTTP(&flipping{ResponseWriter: w}, r)
		return
	}
	if passedOn && path == "/supported" {
		return
	}
	s.honest.ServeHTTP(w, r)
}

// answerWithFirst proves the first record, whatever was asked.
func (s *server) answerWithFirst(w http.ResponseWriter, r *http.Request) {
	signed, err := s.db.Signed(r.Context())
	if err != nil {
		log.Fatal(err)
	}
	records, err := s.db.ReadRecords(r.Context(), 0, 1)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := tlog.FormatRecord(0, records[0])
	if err != nil {
		log.Fatal(err)
	}
	w.Write(append(answer, signed...))
}

// flipping flips a bit of a tile.
type flipping struct {
	http.ResponseWriter
}

func (w *flipping) Write(data []byte) (int, error) {
	flipped := append([]byte(nil), data...)
	flipped[0] ^= 1
	return w.ResponseWriter.Write(flipped)
}

// obey does what a command says.
func (s *server) obey(command []string) string {
	switch command[0] {
	case "wrong-zip", "wrong-mod":
		s.db.mu.Lock()
		defer s.db.mu.Unlock()
		s.db.wrong[strings.TrimPrefix(command[0], "wrong-")+" "+command[1]] = true
	case "grow":
		s.db.mu.Lock()
		defer s.db.mu.Unlock()
		s.db.pad("padding", number(command[1]))
	case "shrink":
		s.db.shrink(number(command[1]))
	case "fork":
		s.db.restart("fork", len(s.db.records))
	case "fail", "stall", "flip", "empty", "unrelated":
		s.lieLike(command)
	case "honest":
		s.lieLike(nil)
	case "requests":
		return strconv.FormatInt(s.requests.Load(), 10)
	default:
		log.Fatalf("unknown command %q", command)
	}
	return ""
}

func (s *server) lieLike(lie []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		close(s.ended)
	}
	s.lie, s.ended = lie, make(chan struct{})
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return n
}
