// Package scene is one box of the built image as most tests of it want it: on a
// LAN with a client, described by a signed site bundle, with an administrator
// and a database of its own that the client writes to. Start reading at New.
package scene

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/tools/boxes"
	"komainu/tools/lab"
)

// Password is the administrator's on the serial line, and the clerk's of the database.
const Password = "komainu-2026"

// Addresses of the box and of the client beside it.
const (
	BoxAddress    = lab.DB4
	ClientAddress = lab.App4
)

// Health is where the box's agent answers monitoring.
const Health = BoxAddress + ":8443"

var (
	login  = regexp.MustCompile(`login: \z`)
	prompt = regexp.MustCompile(`(?m)^(\S+[>#$]|#) \z`)
)

// Scene is a running lab with one box, which has no power yet.
type Scene struct {
	*boxes.Box
	Lab    *lab.Lab
	Client *lab.Host // on the box's LAN
	Place  *lab.Host // that the box stands in for
}

// New makes a scene whose box has the disk "system" and what o has beside it.
// From is the image that the disk begins as: Installed's, or the bare image. A
// disk of o named "system" replaces it; o without NICs means one on the LAN. The
// caller closes it.
func New(ctx context.Context, name, from string, o boxes.Options) (s *Scene, err error) {
	s = &Scene{}
	if s.Lab, err = lab.New(ctx, lab.Options{Name: name}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make the scene: %w", err), s.Close())
			s = nil
		}
	}()
	lan, err := s.Lab.NewLAN("dcnet")
	if err != nil {
		return s, err
	}
	port := func(link, address string) lab.Wiring {
		w := lab.Wiring{Ports: []lab.Port{{Link: link, LAN: lan}}}
		if address != "" {
			w.Ports[0].Addresses = []netip.Prefix{netip.MustParsePrefix(address + "/24")}
		}
		return w
	}
	if s.Client, err = s.Lab.NewHost("client", port("eth0", ClientAddress)); err != nil {
		return s, err
	}
	if s.Place, err = s.Lab.NewHost("box", port("dclan", "")); err != nil {
		return s, err
	}
	if o.NICs == nil {
		o.NICs = []boxes.NIC{{Link: "dclan"}}
	}
	if !hasSystem(o.Disks) {
		o.Disks = append([]boxes.Disk{{Name: "system", From: from, Size: SystemBytes, Serial: "SYSTEM"}}, o.Disks...)
	}
	if s.Box, err = boxes.New(s.Place, o); err != nil {
		return s, err
	}
	for _, c := range []*boxes.Console{s.Console, s.Second} {
		if c != nil {
			c.Prompt = prompt
		}
	}
	return s, nil
}

// SystemBytes is the size of the disk "system".
const SystemBytes = 4 << 30

func hasSystem(disks []boxes.Disk) bool {
	for _, d := range disks {
		if d.Name == "system" {
			return true
		}
	}
	return false
}

// Close ends box and lab.
func (s *Scene) Close() error {
	var err error
	if s.Box != nil {
		err = s.Box.Close()
	}
	return errors.Join(err, s.Lab.Close())
}

// PowerOn starts the box and waits for the login prompt; it returns the time
// from the power-on to it.
func (s *Scene) PowerOn(ctx context.Context) (time.Duration, error) { return s.Boot(ctx, login) }

// FirstLogin sets the administrator's password after PowerOn, leaves the
// questions of a box without configuration, and leaves the console at its
// prompt, in English.
func (s *Scene) FirstLogin(ctx context.Context) error {
	if err := s.dialogue(ctx, "admin", regexp.MustCompile(`new password: \z`), Password, regexp.MustCompile(`again: \z`), Password); err != nil {
		return err
	}
	const question = `\[ja\] > \z`
	got, err := s.Console.Expect(ctx, regexp.MustCompile(question+"|"+prompt.String()))
	if err != nil {
		return err
	}
	if strings.HasPrefix(got[0], "[ja]") {
		if err := s.Console.Type("\x03"); err != nil {
			return err
		}
		if _, err := s.Console.Expect(ctx, prompt); err != nil {
			return err
		}
	}
	return s.dialogue(ctx, "console language en", prompt)
}

// Login does the same on a box that has the administrator.
func (s *Scene) Login(ctx context.Context) error {
	return s.dialogue(ctx, "admin", regexp.MustCompile(`(?i)password: \z`), Password, prompt, "console language en", prompt)
}

// Shell goes from the console to the emergency shell; Leave goes back.
func (s *Scene) Shell(ctx context.Context) error {
	return s.dialogue(ctx, "shell", regexp.MustCompile(`(?m)^# \z`))
}

// Leave ends the emergency shell.
func (s *Scene) Leave(ctx context.Context) error {
	return s.dialogue(ctx, "exit", regexp.MustCompile(`(?m)^\S+> \z`))
}

// dialogue types texts and waits for what follows each.
func (s *Scene) dialogue(ctx context.Context, steps ...any) error {
	for _, x := range steps {
		switch x := x.(type) {
		case string:
			if err := s.Console.Send(x); err != nil {
				return err
			}
		case *regexp.Regexp:
			if _, err := s.Console.Expect(ctx, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// Connect opens a connection to the box's database from the client, as the
// clerk; it tries until ctx ends.
func (s *Scene) Connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("postgres://clerk:" + Password + "@" + BoxAddress + ":5432/postgres?sslmode=disable&connect_timeout=5")
	if err != nil {
		return nil, err
	}
	cfg.DialFunc = s.Client.Dial
	for {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond): // a server that starts doesn't say when it will be up
		}
	}
}

// Stick makes the image of a USB stick whose FAT holds files (name: host's file).
func Stick(name string, files map[string]string) error { return stick(name, files) }

// build compiles a package of the repository for the guest.
func build(ctx context.Context, to, pkg string) error {
	root, err := boxes.Repository()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// copySparse copies a disk's file without its holes.
func copySparse(ctx context.Context, from, to string) error {
	part := to + ".part"
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", from, part).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", filepath.Base(from), err, out)
	}
	return os.Rename(part, to)
}
