package update

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"komainu/images/layout"
)

// errSource is wrapped when reading the source fails, as when a stick is pulled out.
var errSource = errors.New("the source can't be read")

// Bounds of a transfer.
const (
	dialTime  = 20 * time.Second
	stallTime = time.Minute // without a byte
	bundleMax = 1 << 30     // bytes; the bundle's own bounds are tighter
)

// open opens the order's source.
func (j Job) open(ctx context.Context) (io.ReadCloser, error) {
	source := j.Order.Source
	switch name, usb := strings.CutPrefix(source, "usb:"); {
	case usb:
		return openStick(j.Run, name, newestImage)
	case strings.HasPrefix(source, "https://"):
		return j.fetch(ctx, source)
	case filepath.IsAbs(source):
		f, err := os.Open(source)
		if err != nil {
			return nil, refuse("image-source", err.Error())
		}
		return &reading{f, f.Close}, nil
	}
	return nil, refuse("image-source-form", source)
}

// reading marks the errors of a source as such.
type reading struct {
	io.Reader
	close func() error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", errSource, err)
	}
	return n, err
}

func (r *reading) Close() error { return r.close() }

// fetch asks an HTTPS server that the configured authority vouches for.
func (j Job) fetch(ctx context.Context, source string) (io.ReadCloser, error) {
	if j.CA == "" {
		return nil, refuse("image-no-ca")
	}
	pem, err := os.ReadFile(j.CA)
	if err != nil {
		return nil, refuse("image-source", err.Error())
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, refuse("image-source", j.CA+" holds no certificate")
	}
	ctx, cancel := context.WithCancel(ctx)
	stall := time.AfterFunc(stallTime, cancel)
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: dialTime}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   dialTime,
			ResponseHeaderTimeout: dialTime,
			DisableKeepAlives:     true,
		},
		CheckRedirect: onlyHTTPS,
	}
	fail := func(err error) (io.ReadCloser, error) {
		stall.Stop()
		cancel()
		return nil, refuse("image-source", err.Error())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return fail(err)
	}
	resp, err := client.Do(req) //nolint:bodyclose // closed by the reader that is returned
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		return fail(errors.Join(fmt.Errorf("%s: the server says %s", source, resp.Status), resp.Body.Close()))
	}
	return &reading{&alive{io.LimitReader(resp.Body, bundleMax), stall}, func() error {
		stall.Stop()
		cancel()
		return resp.Body.Close()
	}}, nil
}

// onlyHTTPS keeps a redirection from leaving TLS, or from going round.
func onlyHTTPS(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != "https" || len(via) > 5 {
		return &url.Error{Op: "redirect", URL: r.URL.String(), Err: errors.New("only https is followed, five times at most")}
	}
	return nil
}

// alive puts the end of a stalled transfer off with every byte.
type alive struct {
	io.Reader
	stall *time.Timer
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 {
		a.stall.Reset(stallTime)
	}
	return n, err
}

// openStick looks through the sticks for a file: the one of that name, or what
// pick takes out of the names in its root. The stick is mounted read-only as
// long as the file is open.
func openStick(run, name string, pick func([]string) string) (io.ReadCloser, error) {
	if name != "" && name != filepath.Base(name) {
		return nil, refuse("image-source-form", "usb:"+name)
	}
	parts := sticks("/sys")
	if len(parts) == 0 {
		return nil, refuse("usb-none")
	}
	dir := filepath.Join(run, "stick")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, refuse("image-source", err.Error())
	}
	var errs []error
	for _, p := range parts {
		if err := unix.Mount(p, dir, "vfat", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			errs = append(errs, fmt.Errorf("mount %s: %w", p, err))
			continue
		}
		f, err := inFolder(dir, name, pick)
		if err == nil {
			return &reading{f, func() error { return errors.Join(f.Close(), unmount(dir)) }}, nil
		}
		errs = append(errs, err, unmount(dir))
	}
	return nil, refuse("usb-nothing", errors.Join(errs...).Error())
}

// unmount lets a stick that is still read go when it isn't any more.
func unmount(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }

func inFolder(dir, name string, pick func([]string) string) (*os.File, error) {
	if name == "" {
		all, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, e := range all {
			names = append(names, e.Name())
		}
		if name = pick(names); name == "" {
			return nil, errors.New("no bundle on it")
		}
	}
	return os.Open(filepath.Join(dir, name))
}

// newestImage is the image bundle of the highest version.
func newestImage(names []string) string {
	best := layout.Version("")
	found := ""
	for _, n := range names {
		if v, ok := stickName(n); ok && (found == "" || v.Compare(best) > 0) {
			best, found = v, n
		}
	}
	return found
}

// sticks are the partitions of removable and USB disks, or the disk itself
// where it has none: Documentation/ABI/stable/sysfs-block.
func sticks(sys string) []string {
	var devs []string
	all, _ := filepath.Glob(filepath.Join(sys, "block/*")) // the pattern is good
	for _, disk := range all {
		removable, _ := os.ReadFile(filepath.Join(disk, "removable")) // unreadable: not removable
		where, _ := filepath.EvalSymlinks(disk)
		if strings.TrimSpace(string(removable)) != "1" && !strings.Contains(where, "/usb") {
			continue
		}
		parts, _ := filepath.Glob(filepath.Join(disk, "*/partition"))
		for _, p := range parts {
			devs = append(devs, "/dev/"+filepath.Base(filepath.Dir(p)))
		}
		if len(parts) == 0 && !strings.Contains(filepath.Base(disk), "sr") {
			devs = append(devs, "/dev/"+filepath.Base(disk))
		}
	}
	slices.Sort(devs)
	return devs
}
