// Command xmod says what golang.org/x/mod makes of module paths, versions and tiles. Each input line
// is an operation and its arguments in hexadecimal, separated by tabs; each output line is "no", or
// "ok" and a result.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"log"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		fields := strings.Split(in.Text(), "\t")
		args := []string{"", ""}
		for i, field := range fields[1:] {
			arg, err := hex.DecodeString(field)
			if err != nil {
				log.Fatal(err)
			}
			args[i] = string(arg)
		}
		result, ok := judge(fields[0], args[0], args[1])
		if !ok {
			result = "no"
		} else {
			result = "ok " + result
		}
		fmt.Fprintln(out, result)
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
}

func judge(op, a, b string) (result string, ok bool) {
	switch op {
	case "path": // escaped module path
		unescaped, err := module.UnescapePath(a)
		return unescaped, err == nil
	case "module": // module path
		escaped, err := module.EscapePath(a)
		return escaped, err == nil
	case "version": // escaped version or query
		version, err := module.UnescapeVersion(a)
		return version, err == nil
	case "canonical": // version
		ok := semver.IsValid(a) && module.CanonicalVersion(a) == a
		return fmt.Sprintf("%t %t %s", module.IsPseudoVersion(a), semver.Prerelease(a) != "", semver.Major(a)), ok
	case "check": // module path, version
		return "", module.Check(a, b) == nil && module.CanonicalVersion(b) == b
	case "compare": // version, version
		return fmt.Sprint(semver.Compare(a, b)), true
	case "file": // name of a file
		return "", module.CheckFilePath(a) == nil
	case "character": // one character, as a file's name; whether Go's Unicode tables know it
		known := unicode.In([]rune(a)[0], unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z)
		return fmt.Sprintf("%t %t", known, module.CheckFilePath(a) == nil), true
	case "split": // anything
		prefix, major, ok := module.SplitPathVersion(a)
		return prefix + " " + major, ok
	case "tag": // tag
		return fmt.Sprintf("%s %s", semver.Canonical(a), semver.Build(a)), semver.IsValid(a)
	case "pseudo": // version
		base, err := module.PseudoVersionBase(a)
		if err != nil {
			base = "impossible"
		}
		stamp, when := "never", time.Time{}
		if when, err = module.PseudoVersionTime(a); err == nil {
			stamp = strconv.FormatInt(when.Unix(), 10)
		}
		rev, err := module.PseudoVersionRev(a)
		return fmt.Sprintf("%s %s %s", base, stamp, rev), err == nil && module.CanonicalVersion(a) == a
	case "make": // base version, "major seconds revision"
		var major, rev string
		var seconds int64
		if _, err := fmt.Sscan(b, &major, &seconds, &rev); err != nil {
			log.Fatal(err)
		}
		return module.PseudoVersion(major, a, time.Unix(seconds, 0), rev), true
	case "tile": // tile path
		tile, err := tlog.ParseTilePath(a)
		return fmt.Sprintf("%d %d %d %d", tile.H, tile.L, tile.N, tile.W), err == nil && tile.L <= 63
	case "pattern": // pattern of modules, module path
		_, err := path.Match(a, "")
		return fmt.Sprint(module.MatchPrefixPatterns(a, b)), err == nil
	case "gomod": // go.mod, version: deprecation and the rationale of a retraction that means it
		f, err := modfile.ParseLax("go.mod", []byte(a), nil)
		if err != nil || f.Module == nil {
			return "", false
		}
		for _, r := range f.Retract {
			if semver.Compare(r.Low, b) <= 0 && semver.Compare(b, r.High) <= 0 {
				return fmt.Sprintf("%q retracted %q", f.Module.Deprecated, r.Rationale), true
			}
		}
		return fmt.Sprintf("%q", f.Module.Deprecated), true
	case "ask": // module path, version or query: the path that the go command sends
		escaped, err1 := module.EscapePath(a)
		version, err2 := module.EscapeVersion(b)
		if err1 != nil || err2 != nil {
			return "", false
		}
		return pathEscape("/" + escaped + "/@v/" + version + ".info"), true
	}
	log.Fatalf("unknown operation %q", op)
	return "", false
}

// pathEscape encodes as the go command does: it leaves slashes alone.
func pathEscape(s string) string {
	return strings.ReplaceAll(url.PathEscape(s), "%2F", "/")
}
