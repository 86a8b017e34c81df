// Command flash makes the sticks that a box is installed from, and the signed
// bundles that it takes: on a workstation with Linux, by a field engineer. It
// never writes to a disk that anything uses. Start reading at commands.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"komainu/images/bundle"
	"komainu/images/disk"
	"komainu/images/layout"
)

// command is one of the words behind flash.
type command struct {
	name, use, what string
	run             func(*app, *flag.FlagSet, []string) error
}

func commands() []command {
	return []command{
		{"list", "", "show the disks of this machine, and which of them can be written", (*app).list},
		{"write", "[-yes SERIAL] [-any] [-site komainu.toml -secrets DIR -key KEY] komainu.img DISK|SERIAL", "write the image to a stick and verify it", (*app).write},
		{"site", "-key KEY -o FILE komainu.toml SECRETSDIR", "make the signed configuration of a box (it holds the secrets readably: keep the stick)", (*app).site},
		{"sign", "-key KEY -o FILE [-floor VERSION] komainu.efi", "make the signed bundle of an image, for updates", (*app).sign},
		{"key", "DIR NAME", "make a pair of keys: DIR/NAME.key to sign with, DIR/NAME.pub for the image", (*app).key},
		{"check", "-keys DIR BUNDLE", "verify a bundle", (*app).check},
	}
}

// app is what commands work with; tests put in their own.
type app struct {
	lang     string
	in       *bufio.Reader
	out, err io.Writer
	terminal bool // err redraws a line
	host     Host
	open     func(path string) (Target, error)
	now      func() time.Time
	password func(prompt string) (string, error)
}

func main() {
	a := &app{
		in: bufio.NewReader(os.Stdin), out: os.Stdout, err: os.Stderr, terminal: term.IsTerminal(int(os.Stderr.Fd())),
		host: Host{"/"}, open: openDevice, now: time.Now, password: askPassword,
	}
	if strings.HasPrefix(os.Getenv("LANG"), "ja") {
		a.lang = "ja"
	}
	os.Exit(a.main(os.Args[1:]))
}

// main is 0 when the command did its work, 1 when it failed, 2 when it was misused.
func (a *app) main(args []string) int {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name != args[0] {
				continue
			}
			flags := flag.NewFlagSet("flash "+c.name, flag.ContinueOnError)
			flags.SetOutput(a.err)
			flags.Usage = func() {
				fmt.Fprintf(a.err, "flash %s %s\n  %s\n", c.name, c.use, c.what)
				flags.PrintDefaults()
			}
			switch err := c.run(a, flags, args[1:]); {
			case err == nil:
				return 0
			case errors.Is(err, errUsage):
				return 2
			default:
				fmt.Fprintln(a.err, "flash:", a.sentence(err))
				return 1
			}
		}
	}
	fmt.Fprintln(a.err, "flash COMMAND ...")
	for _, c := range commands() {
		fmt.Fprintf(a.err, "  %s %s\n      %s\n", c.name, c.use, c.what)
	}
	return 2
}

// errUsage: the flag package has said what is wrong.
var errUsage = errors.New("usage")

// parse takes flags and exactly n arguments behind them.
func parse(flags *flag.FlagSet, args []string, n int) error {
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	if flags.NArg() != n {
		flags.Usage()
		return errUsage
	}
	return nil
}

func (a *app) say(code string, args ...string) string { return say(a.lang, code, args...) }

func (a *app) sentence(err error) string {
	var f *fault
	if errors.As(err, &f) {
		return a.say(f.code, f.args...)
	}
	for _, known := range []struct {
		err  error
		code string
	}{
		{bundle.ErrFormat, "bundle-format"}, {bundle.ErrSignature, "bundle-signature"}, {bundle.ErrTruncated, "bundle-truncated"},
		{bundle.ErrAltered, "bundle-altered"}, {bundle.ErrKind, "bundle-kind"}, {bundle.ErrPassword, "key-password"},
	} {
		if errors.Is(err, known.err) {
			return a.say(known.code, err.Error())
		}
	}
	return err.Error()
}

func (a *app) list(flags *flag.FlagSet, args []string) error {
	if err := parse(flags, args, 0); err != nil {
		return err
	}
	disks, err := a.host.Disks()
	if err != nil {
		return err
	}
	if len(disks) == 0 {
		fmt.Fprintln(a.out, a.say("list-none"))
		return nil
	}
	table := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, strings.ReplaceAll(a.say("list-head"), "|", "\t"))
	for _, d := range disks {
		state := a.say("state-free")
		if err := allowed(d, disk.ImageBytes, false); err != nil {
			state = a.sentence(err)
		}
		switch {
		case len(d.Uses) > 0:
			state = a.say(d.Uses[0].Code, d.Uses[0].Arg)
		case !d.Removable:
			state = a.say("state-fixed")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", d.Name, d.Serial, gigabytes(d.Bytes), d.Model, state)
	}
	return table.Flush()
}

func (a *app) write(flags *flag.FlagSet, args []string) (err error) {
	yes := flags.String("yes", "", "confirm with the disk's `serial` number instead of typing it")
	any := flags.Bool("any", false, "allow a disk that isn't removable")
	siteFile := flags.String("site", "", "configuration `file` to put on the stick for the first start")
	secrets := flags.String("secrets", "", "`folder` of its secrets")
	key := flags.String("key", "", "private key `file` to sign it with")
	if err := parse(flags, args, 2); err != nil {
		return err
	}
	if set := []string{*siteFile, *secrets, *key}; strings.Join(set, "") != "" && (set[0] == "" || set[1] == "" || set[2] == "") {
		return refuse("site-needs")
	}
	image, err := os.Open(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("open the image: %w", err)
	}
	defer image.Close() // only read: nothing to lose
	size, err := imageSize(image)
	if err != nil {
		return err
	}
	disks, err := a.host.Disks()
	if err != nil {
		return err
	}
	name := flags.Arg(1)
	if real, err := filepath.EvalSymlinks(name); err == nil && strings.Contains(name, "/") {
		name = real // of /dev/disk/by-id
	}
	d, err := choose(disks, name)
	if err != nil {
		return err
	}
	if err := allowed(d, size, *any); err != nil {
		return err
	}
	var site []byte
	if *siteFile != "" {
		if site, err = a.packSite(*siteFile, *secrets, *key); err != nil {
			return err
		}
	}
	if err := a.confirm(d, *yes); err != nil {
		return err
	}
	to, err := a.open(d.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := writeImage(to, image, size, a.progress(size)); err != nil {
		return err
	}
	if site != nil {
		fmt.Fprintln(a.err, a.say("add-site"))
		if err := addSite(to, size, site); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.out, a.say("done", d.Name))
	return nil
}

// imageSize refuses a file that isn't the image of a disk of ours.
func imageSize(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("image: %w", err)
	}
	parts, err := disk.Partitions(f, disk.Geometry{Bytes: st.Size(), Sector: 512})
	if err == nil {
		if esp, ok := disk.Find(parts, layout.ESPType, layout.ESPName); ok && len(parts) == 1 && esp.Start+esp.Bytes < st.Size() {
			return st.Size(), nil
		}
	}
	return 0, &fault{"no-image", []string{f.Name()}, err}
}

// confirm wants the disk's serial number, or its name where it has none.
func (a *app) confirm(d Disk, yes string) error {
	if yes == "" {
		fmt.Fprint(a.err, a.say("erase", d.Path, d.Model, gigabytes(d.Bytes), d.ID()))
		line, err := a.in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the answer: %w", err)
		}
		yes = strings.TrimSpace(line)
	}
	if yes != d.ID() {
		return refuse("not-confirmed", d.ID())
	}
	return nil
}

// progress shows percent and rate: on a terminal in one line that is redrawn,
// else a line every ten percent.
func (a *app) progress(size int64) func(step, int64) {
	var now step
	var begun time.Time
	last, every := int64(-1), int64(10)
	if a.terminal {
		every = 1
	}
	return func(s step, done int64) {
		if s != now {
			now, begun, last = s, a.now(), -1
		}
		percent := done * 100 / size
		if percent/every == last {
			return
		}
		last = percent / every
		rate := ""
		if passed := a.now().Sub(begun).Seconds(); passed > 0 {
			rate = fmt.Sprintf(", %.0f MiB/s", float64(done)/(1<<20)/passed)
		}
		line := fmt.Sprintf("%s: %d %% (%s%s)", a.say(string(s)), percent, mebibytes(done), rate)
		switch {
		case !a.terminal || done == size:
			fmt.Fprintf(a.err, "%s\n", strings.Repeat("\r", btoi(a.terminal))+line)
		default:
			fmt.Fprintf(a.err, "\r%s", line)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func gigabytes(n int64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }

func (a *app) check(flags *flag.FlagSet, args []string) error {
	keys := flags.String("keys", "", "`folder` of public keys (*"+bundle.PublicEnd+")")
	if err := parse(flags, args, 1); err != nil {
		return err
	}
	known, err := bundle.PublicKeys(*keys)
	if err != nil {
		return err
	}
	f, err := os.Open(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("open the bundle: %w", err)
	}
	defer f.Close() // only read: nothing to lose
	m, err := bundle.Verify(bufio.NewReaderSize(f, 1<<20), known)
	if err != nil {
		return err
	}
	if m.Kind == bundle.KindSite {
		fmt.Fprintln(a.out, a.say("check-site", m.Site, time.Unix(m.Unix, 0).Format(time.DateTime)))
		return nil
	}
	fmt.Fprintln(a.out, a.say("check-image", string(m.Version), m.Machine, string(m.Floor)))
	return nil
}

// askPassword reads without showing what is typed.
func askPassword(prompt string) (string, error) {
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	if err != nil {
		return "", fmt.Errorf("read the password (from a terminal): %w", err)
	}
	return string(b), nil
}

// saved is a file that appears under its name when it is whole.
func saved(path string, mode os.FileMode, fill func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+layout.Part)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(fill(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
