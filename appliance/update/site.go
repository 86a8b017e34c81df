package update

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"komainu/drivers/files"
	"komainu/images/bundle"
)

// Site is where the first configuration of a box comes from and goes to.
type Site struct {
	Root   string // of the EFI partition: a stick that boots brings its own
	Run    string
	Keys   string
	Config string // layout.Config
	State  string // secrets go to its folder "secrets"
	// Check parses a configuration and gives its site's name; secrets are the
	// names that come with it. Nothing is written when it fails.
	Check func(toml []byte, secrets []string) (site string, err error)
}

// siteMost is how many bytes a site bundle may hold in all.
const siteMost = 8 << 20

// First takes the configuration for a box that has none from a stick, or from
// the EFI partition. It returns the site's name, "" when there is a
// configuration already or nobody brings one. Errors are *control.Error; then
// nothing was changed. The secrets are written first, so that a cut leaves a box
// without a configuration, which takes it again.
func (s Site) First() (string, error) {
	if _, err := os.Stat(s.Config); !errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	from, err := s.find()
	if from == nil || err != nil {
		return "", err
	}
	m, content, err := s.read(from)
	if err = errors.Join(err, from.Close()); err != nil {
		return "", asBundle(err)
	}
	var names []string
	for name := range content {
		if secret, ok := strings.CutPrefix(name, bundle.SecretsDir); ok {
			names = append(names, secret)
		}
	}
	site, err := s.Check(content[bundle.ConfigFile], names)
	if err != nil {
		return "", refuse("site-config", err.Error())
	}
	if site != m.Site {
		return "", refuse("site-other", fmt.Sprintf("the bundle says %s, its configuration %s", m.Site, site))
	}
	if err := s.write(names, content); err != nil {
		return "", refuse("site-write", err.Error())
	}
	return site, nil
}

// find opens the bundle; nil when there is none.
func (s Site) find() (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(s.Root, bundle.SiteName))
	if err == nil {
		return &reading{f, f.Close}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, partition(err)
	}
	if len(sticks("/sys")) == 0 {
		return nil, nil
	}
	from, err := openStick(s.Run, bundle.SiteName, nil)
	if err != nil { // a stick for something else is no fault
		return nil, nil //nolint:nilerr // there is no configuration to take, which is said by its absence
	}
	return from, nil
}

// read holds the whole bundle, proved.
func (s Site) read(from io.Reader) (bundle.Manifest, map[string][]byte, error) {
	none := bundle.Manifest{}
	keys, err := bundle.PublicKeys(s.Keys)
	if err != nil {
		return none, nil, refuse("image-keys", err.Error())
	}
	r, err := bundle.Open(from, keys)
	if err != nil {
		return none, nil, err
	}
	m := r.Manifest()
	if err := m.AllowSite("", 0); err != nil {
		return none, nil, err
	}
	content, room := map[string][]byte{}, int64(siteMost)
	for {
		f, data, err := r.Next()
		if errors.Is(err, io.EOF) {
			return m, content, nil
		}
		if err != nil {
			return none, nil, err
		}
		if room -= f.Size; room < 0 {
			return none, nil, fmt.Errorf("%w: it is larger than %d bytes", bundle.ErrFormat, siteMost)
		}
		b, err := io.ReadAll(data)
		if err != nil {
			return none, nil, err
		}
		content[f.Name] = b
	}
}

func (s Site) write(names []string, content map[string][]byte) error {
	secrets := filepath.Join(s.State, "secrets")
	for _, dir := range []string{secrets, filepath.Dir(s.Config)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := files.Replace(filepath.Join(secrets, name), content[bundle.SecretsDir+name], 0o600); err != nil {
			return err
		}
	}
	return files.Replace(s.Config, bytes.Clone(content[bundle.ConfigFile]), 0o600)
}
