package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"

	"komainu/appliance/control"
	"komainu/images/bundle"
	"komainu/images/esp"
	"komainu/images/layout"
)

// JobMain is the applet "image-job SOCKET": it carries out the one Job that it
// is told over the socket, answers with its progress and ends. It is started by
// Box only, as root.
func JobMain(ctx context.Context, args []string, _ io.Writer) error {
	if len(args) != 1 {
		return errors.New("image-job is started by the supervisor")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", args[0])
	if err != nil {
		return fmt.Errorf("image job: %w", err)
	}
	defer c.Close() // what was written has been sent
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	var j Job
	if err := json.NewDecoder(io.LimitReader(c, 1<<20)).Decode(&j); err != nil {
		return fmt.Errorf("image job: %w", err)
	}
	enc := json.NewEncoder(c)
	tell := func(l line) error { return enc.Encode(l) }
	if err := j.do(ctx, tell); err != nil {
		var e *control.Error
		if !errors.As(err, &e) {
			e = &control.Error{Code: "image-write", Args: []string{err.Error()}}
		}
		return tell(line{Error: e})
	}
	return nil
}

func (j Job) do(ctx context.Context, tell func(line) error) error {
	if j.Order.Action == "to-disk" {
		return j.toDisk(ctx, tell)
	}
	return j.install(ctx, tell)
}

// install fetches a bundle, checks it before anything is written, and writes
// its image. Every error is a *control.Error.
func (j Job) install(ctx context.Context, tell func(line) error) error {
	if err := tell(line{ImageProgress: control.ImageProgress{Step: "image-step-open", Args: []string{j.Order.Source}}}); err != nil {
		return err
	}
	from, err := j.open(ctx)
	if err != nil {
		return err
	}
	defer from.Close() // only read
	keys, err := bundle.PublicKeys(j.Keys)
	if err != nil {
		return refuse("image-keys", err.Error())
	}
	r, err := bundle.Open(from, keys)
	if err != nil {
		return asBundle(err)
	}
	m := r.Manifest()
	if err := j.allow(m); err != nil {
		return err
	}
	f, content, err := r.Next()
	for err == nil && f.Name != bundle.ImageFile {
		f, content, err = r.Next()
	}
	if err != nil {
		return asBundle(err)
	}
	if err := j.write(m, f, &whole{content, r}, tell); err != nil {
		return asBundle(err)
	}
	return tell(line{ImageProgress: control.ImageProgress{Step: "image-step-installed", Args: []string{string(m.Version)}, Done: true}, Version: m.Version, Floor: m.Floor})
}

// allow is what the box says to a bundle whose signature is good.
func (j Job) allow(m bundle.Manifest) error {
	if err := m.AllowImage(layout.Machine, j.Floor); err != nil {
		return asBundle(err)
	}
	failed, did := j.Failed[m.Version]
	switch by := m.Version.Compare(j.Version); {
	case by == 0:
		return refuse("image-same", string(m.Version))
	case by < 0: // the loader starts the newest: it would never come to this one
		return refuse("image-older", string(m.Version), string(j.Version))
	case did && !j.Order.Again:
		return refuse("image-failed-before", append([]string{string(m.Version), failed.Reason.Code}, failed.Reason.Args...)...)
	}
	return nil
}

// write makes room and writes.
func (j Job) write(m bundle.Manifest, f bundle.File, from io.Reader, tell func(line) error) (err error) {
	var sum [sha256.Size]byte
	if n, err := hex.Decode(sum[:], []byte(f.SHA256)); err != nil || n != len(sum) {
		return fmt.Errorf("%w: digest %q", bundle.ErrFormat, f.SHA256)
	}
	all, err := esp.List(j.Root)
	if err != nil {
		return err
	}
	free, err := esp.Free(j.Root)
	if err != nil {
		return err
	}
	running, _ := esp.ParseName(j.Running)
	gone, err := esp.Plan(all, running, m.Version, f.Size, free)
	if err != nil {
		return err
	}
	if j.Remount {
		set := Remount(j.Root)
		if err := set(true); err != nil {
			return fmt.Errorf("%w: %w", esp.ErrReadOnly, err)
		}
		defer func() { err = errors.Join(err, set(false)) }()
	}
	for _, i := range gone {
		if err := esp.Remove(j.Root, i); err != nil {
			return err
		}
	}
	told := int64(-1)
	last := esp.Step("")
	return esp.Write(j.Root, m.Version, from, f.Size, sum, func(s esp.Step, n int64) error {
		percent := n * 100 / max(f.Size, 1)
		if s == last && percent == told {
			return nil
		}
		last, told = s, percent
		return tell(line{ImageProgress: control.ImageProgress{Step: stepCode(s), Bytes: n, Of: f.Size}})
	})
}

func stepCode(s esp.Step) string {
	switch s {
	case esp.Writing:
		return "image-step-write"
	case esp.Checking:
		return "image-step-check"
	}
	return "image-step-name"
}

// whole ends only when what stands behind the image is proved as well.
type whole struct {
	io.Reader
	r *bundle.Reader
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	for errors.Is(err, io.EOF) {
		if _, _, err2 := w.r.Next(); errors.Is(err2, io.EOF) {
			return n, io.EOF
		} else if err2 != nil {
			return n, err2
		}
	}
	return n, err
}

// asBundle gives an error about a bundle its sentence.
func asBundle(err error) error {
	for _, e := range []struct {
		is   error
		code string
	}{
		{bundle.ErrSignature, "image-signature"}, {bundle.ErrTruncated, "image-truncated"}, {bundle.ErrAltered, "image-altered"},
		{bundle.ErrMachine, "image-machine"}, {bundle.ErrOlder, "image-floor"}, {bundle.ErrKind, "image-kind"}, {bundle.ErrFormat, "image-format"},
		{bundle.ErrSite, "site-other"}, {errSource, "image-source"},
	} {
		if errors.Is(err, e.is) {
			return refuse(e.code, err.Error())
		}
	}
	return partition(err)
}

// stickName is what an image bundle is called on a stick.
func stickName(name string) (layout.Version, bool) {
	if filepath.Ext(name) != ".kmb" || len(name) <= len(layout.ImagePrefix)+len(".kmb") {
		return "", false
	}
	if name[:len(layout.ImagePrefix)] != layout.ImagePrefix {
		return "", false
	}
	v, err := layout.ParseVersion(name[len(layout.ImagePrefix) : len(name)-len(".kmb")])
	return v, err == nil
}
