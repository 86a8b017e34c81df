package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"komainu/appliance/control"
	"komainu/drivers/stick"
)

// The ending of configurations on a stick, and how many names of others a
// message tells.
const (
	configEnding = ".toml"
	namesTold    = 10
)

// fromStick is the text of a configuration on the stick; without a name that of
// the only one there.
func (in *Invocation) fromStick(name string) (text string, err error) {
	look := stick.Look
	if in.Stick != nil {
		look = in.Stick
	}
	err = look(in.run(), func(root string) error {
		text, err = configOn(root, name)
		return err
	})
	return text, explain("usb:"+name, err)
}

func configOn(root, name string) (string, error) {
	there, err := stick.Files(root, configEnding)
	if err != nil {
		return "", err
	}
	told := there[:min(len(there), namesTold)]
	if name != "" && filepath.Ext(name) == "" {
		name += configEnding
	}
	switch {
	case name != "":
	case len(there) == 0:
		return "", &control.Error{Code: "stick-no-config"}
	case len(there) > 1:
		return "", &control.Error{Code: "stick-which", Args: told}
	default:
		name = there[0]
	}
	b, err := stick.Read(root, name, candidateMost)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(there) == 0:
		return "", &control.Error{Code: "stick-no-config"}
	case errors.Is(err, fs.ErrNotExist):
		return "", &control.Error{Code: "stick-missing", Args: append([]string{name}, told...)}
	case errors.Is(err, stick.ErrName):
		return "", &control.Error{Code: "stick-name", Args: []string{name}}
	case errors.Is(err, stick.ErrLarge):
		return "", &control.Error{Code: "candidate-large", Args: []string{fmt.Sprint(candidateMost >> 10)}}
	case err != nil:
		return "", &control.Error{Code: "stick-unreadable", Args: []string{name, err.Error()}}
	case !utf8.Valid(b), bytes.IndexByte(b, 0) >= 0:
		return "", &control.Error{Code: "stick-not-text", Args: []string{name}}
	}
	return string(b), nil
}

// copyConfig is `copy config usb:[NAME]`: the configuration that runs, as it is
// shown, so without secrets.
func copyConfig(ctx context.Context, in *Invocation) error {
	name, ok := strings.CutPrefix(in.Args[0], "usb:")
	if !ok {
		return usage("usage-copy-target", in.Args[0])
	}
	if name == "" {
		name = in.fileName(ctx, "config")
	}
	if filepath.Ext(name) == "" {
		name += configEnding
	}
	if stick.Name(name) != nil {
		return &control.Error{Code: "stick-name", Args: []string{name}}
	}
	c, err := in.revision(ctx, 0)
	if err != nil {
		return err
	}
	if c.Text == "" {
		return &control.Error{Code: "config-is-empty"}
	}
	write := stick.Use
	if in.Stick != nil {
		write = in.Stick
	}
	err = write(in.run(), func(root string) error { return configTo(root, name, c.Text) })
	if err != nil {
		return explain("usb:"+name, err)
	}
	if in.JSON {
		return in.lay(map[string]any{"file": name, "bytes": len(c.Text), "revision": c.Revision.Number})
	}
	return in.line("config-copied", fmt.Sprint(c.Revision.Number), name)
}

func configTo(root, name, text string) error {
	if err := stick.Room(root, int64(len(text))); err != nil {
		return err
	}
	err := stick.Write(root, name, func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		return &control.Error{Code: "stick-exists", Args: []string{name}}
	}
	return err
}
