// Package pair is the town-hall box and the DC edge of a town as machines of the
// built image. They get what a field engineer would bring them, a signed bundle
// of their site, and are driven over their serial lines. Everything else of the
// town stays in namespaces. Start reading at Pair.
package pair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"komainu/images/bundle"
	"komainu/images/disk"
	"komainu/images/layout"
	"komainu/tools/boxes"
	"komainu/tools/lab"
	"komainu/tools/town"
)

// Pair is town.Boxes. Its methods may be called at once.
type Pair struct {
	Image string // the built disk image; see boxes.BuildImage
	Key   string // file of the private key that the image's bundles are signed with

	mu   sync.Mutex
	all  map[string]*Machine // by the name of the lab's host
	hall *Machine
}

// Machine is one box of the pair.
type Machine struct {
	*boxes.Box
	Site   string
	Booted time.Duration // from power-on to the login, at the last start

	typing sync.Mutex // one person at the console
	known  bool       // the administrator has a password
	in     bool       // and is logged in
}

// Memory of a box, MiB, and its disk, bytes.
const (
	memory   = 1024
	diskSize = 4 << 30
)

// password of the administrator, set at the first login.
const password = "guardian-lion"

// shown is how long the order of a return is watched: a refusal comes at once,
// the return goes on by itself.
const shown = 15 * time.Second

// Boot is town.Boxes. It returns when somebody could log in.
func (p *Pair) Boot(ctx context.Context, h *lab.Host, s town.Site) error {
	p.mu.Lock()
	m := p.all[h.Name]
	p.mu.Unlock()
	if m == nil {
		var err error
		if m, err = p.build(h, s); err != nil {
			return fmt.Errorf("box of %s: %w", s.Name, err)
		}
	}
	m.typing.Lock()
	defer m.typing.Unlock()
	m.in = false
	took, err := m.Box.Boot(ctx, m.Console.LoginPrompt)
	m.Booted = took
	return err
}

// build makes the machine, its disk as a field engineer leaves it.
func (p *Pair) build(h *lab.Host, s town.Site) (*Machine, error) {
	packed, err := p.pack(s)
	if err != nil {
		return nil, err
	}
	o := boxes.Options{Memory: memory, Watchdog: true, Disks: []boxes.Disk{{Name: "system", From: p.Image, Size: diskSize, Plain: true}}}
	for _, link := range s.Links {
		o.NICs = append(o.NICs, boxes.NIC{Link: link})
	}
	box, err := boxes.New(h, o)
	if err != nil {
		return nil, err
	}
	m := &Machine{Box: box, Site: s.Name}
	box.Console.Prompt = regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(s.Name) + `> \z`)
	p.mu.Lock()
	if p.all == nil {
		p.all = map[string]*Machine{}
	}
	p.all[h.Name] = m
	if slices.Contains(s.Links, "office") {
		p.hall = m
	}
	p.mu.Unlock()
	file, err := box.File("system")
	if err != nil {
		return nil, err
	}
	return m, bring(file, packed)
}

// pack signs what the site's box gets.
func (p *Pair) pack(s town.Site) ([]byte, error) {
	key, err := bundle.PrivateKey(p.Key, "")
	if err != nil {
		return nil, err
	}
	files := []bundle.Source{{Name: bundle.ConfigFile, Mode: 0o600, Data: bytes.NewReader(s.Config)}}
	for name, b := range s.Secrets {
		files = append(files, bundle.Source{Name: bundle.SecretsDir + name, Mode: 0o600, Data: bytes.NewReader(b)})
	}
	slices.SortFunc(files, func(a, b bundle.Source) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	err = bundle.Create(&out, bundle.Manifest{Kind: bundle.KindSite, Site: s.Name, Unix: time.Now().Unix()}, files, key)
	return out.Bytes(), err
}

// bring puts a site's bundle on the EFI partition of a disk that nobody uses.
func bring(file string, packed []byte) (err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	parts, err := disk.Partitions(f, disk.Geometry{Bytes: diskSize, Sector: 512})
	if err != nil {
		return err
	}
	esp, ok := disk.Find(parts, layout.ESPType, layout.ESPName)
	if !ok {
		return fmt.Errorf("%s has no partition %s", filepath.Base(file), layout.ESPName)
	}
	return disk.AddFile(f, esp, 512, bundle.SiteName, packed)
}

// Of is the machine in the place of a host.
func (p *Pair) Of(h *lab.Host) *Machine {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[h.Name]
}

// Close is town.Boxes.
func (p *Pair) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, m := range p.all {
		errs = append(errs, m.Box.Close())
	}
	return errors.Join(errs...)
}
