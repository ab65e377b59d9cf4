// Command project uses each of its dependencies once, so that a build that
// succeeds has needed every module, and prints one line that tests compare.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/Masterminds/semver/v3"
	"github.com/cespare/xxhash/v2"
	"github.com/dustin/go-humanize"
	"github.com/fatih/color"
	"github.com/gofrs/uuid"
	"github.com/google/go-cmp/cmp"
	"github.com/mohae/deepcopy"
	"github.com/pkg/errors"
	"github.com/spf13/pflag"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"
	"gopkg.in/yaml.v3"
)

type settings struct {
	Name string `toml:"name" yaml:"name"`
	Size uint64 `toml:"size" yaml:"size"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	flags := pflag.NewFlagSet("project", pflag.ContinueOnError)
	greeting := flags.String("greeting", "built", "first word of the output")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return errors.Wrap(err, "flags")
	}

	var fromToml, fromYaml settings
	var group errgroup.Group
	group.Go(func() error { return toml.Unmarshal([]byte("name = \"modcdn\"\nsize = 82854982\n"), &fromToml) })
	group.Go(func() error { return yaml.Unmarshal([]byte("name: modcdn\nsize: 82854982\n"), &fromYaml) })
	if err := group.Wait(); err != nil {
		return errors.Wrap(err, "settings")
	}
	if diff := cmp.Diff(fromToml, deepcopy.Copy(fromYaml)); diff != "" {
		return errors.Errorf("settings differ: %s", diff)
	}

	version, err := semver.NewVersion("1.22.3")
	if err != nil {
		return errors.Wrap(err, "version")
	}
	escaped, err := module.EscapePath("github.com/BurntSushi/toml")
	if err != nil {
		return errors.Wrap(err, "path")
	}
	color.NoColor = true
	fmt.Println(strings.Join([]string{
		color.GreenString(*greeting),
		fromToml.Name,
		humanize.Bytes(fromToml.Size),
		version.String(),
		escaped,
		fmt.Sprintf("%016x", xxhash.Sum64String(fromToml.Name)),
		uuid.NewV5(uuid.NamespaceDNS, fromToml.Name).String(),
	}, " "))
	return nil
}
