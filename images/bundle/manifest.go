// Package bundle packs files into one that can be read as a stream and is
// signed with a minisign key: an image to update to, or a box's configuration
// with its secrets. It never writes what it reads anywhere and never decides
// whether a bundle is wanted. Start reading at Open.
//
// A bundle is, one behind the other: the magic; the lengths of manifest and
// signature, 4 bytes each, big endian; the manifest (JSON); its signature (the
// text of a .minisig file, prehashed); then the files' bytes in the order of
// the manifest and nothing behind them. A change that an older reader must not
// pass over takes another magic.
package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"komainu/images/layout"
)

// Errors that callers decide by; the text around them says which file and what to do.
var (
	ErrFormat    = errors.New("this is no bundle that this version can read")
	ErrSignature = errors.New("the bundle isn't signed by a key of this box")
	ErrTruncated = errors.New("the bundle ends too early")
	ErrAltered   = errors.New("the bundle's content isn't what was signed")
	ErrKind      = errors.New("the bundle is of another kind")
	ErrMachine   = errors.New("the bundle is for another machine")
	ErrOlder     = errors.New("the bundle is older than this box allows")
	ErrSite      = errors.New("the bundle is for another site")
)

// Kinds of bundles.
const (
	KindImage = "image" // holds ImageFile
	KindSite  = "site"  // holds ConfigFile, and secrets below SecretsDir
)

// Names of files in bundles.
const (
	ImageFile  = "komainu.efi"
	ConfigFile = "komainu.toml"
	SecretsDir = "secrets/"
)

// SiteName is the bundle of a site in the root of a stick's FAT.
const SiteName = "komainu-site.kmb"

// Bounds, so that reading a bundle takes little memory and a known room.
const (
	maxManifest  = 64 << 10
	maxSignature = 1 << 10
	maxFiles     = 256
	maxImage     = 512 << 20 // bytes of a file in an image bundle
	maxSite      = 1 << 20   // bytes of a file in a site bundle
)

// Manifest is what is signed.
type Manifest struct {
	Kind    string         `json:"kind"`              // KindImage or KindSite
	Version layout.Version `json:"version,omitempty"` // of the image
	Machine string         `json:"machine,omitempty"` // layout.Machine that the image runs on
	// Floor is the oldest version that a box still installs once it has accepted
	// this one ("0" for any); the box keeps the highest it has seen. It doesn't
	// bind a return to an image that is still on the EFI partition.
	Floor layout.Version `json:"floor,omitempty"`
	Site  string         `json:"site,omitempty"` // the site's name, as in its configuration
	Unix  int64          `json:"unix"`           // when it was made, s since 1970
	Files []File         `json:"files"`
}

// File is one file of a bundle.
type File struct {
	Name   string `json:"name"` // with slashes
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
	Mode   uint32 `json:"mode"` // permission bits; 0600 for secrets
}

// plainName is all that a name may be: no path, no hidden file.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Check refuses a manifest that isn't well formed: ErrFormat, or ErrKind for
// a kind that isn't known.
func (m Manifest) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
	must, limit := ImageFile, int64(maxImage)
	switch m.Kind {
	case KindImage:
		for _, v := range []layout.Version{m.Version, m.Floor} {
			if _, err := layout.ParseVersion(string(v)); err != nil {
				return bad("%v", err)
			}
		}
		if m.Floor.Compare(m.Version) > 0 {
			return bad("its floor %s is above its version %s", m.Floor, m.Version)
		}
		if !plainName.MatchString(m.Machine) {
			return bad("machine %q", m.Machine)
		}
	case KindSite:
		must, limit = ConfigFile, maxSite
		if m.Site == "" || len(m.Site) > 64 || strings.ContainsFunc(m.Site, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
			return bad("site %q", m.Site)
		}
	default:
		return fmt.Errorf("%w: %q", ErrKind, m.Kind)
	}
	if len(m.Files) > maxFiles {
		return bad("%d files, at most %d", len(m.Files), maxFiles)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		secret, isSecret := strings.CutPrefix(f.Name, SecretsDir)
		switch {
		case seen[f.Name]:
			return bad("two files named %q", f.Name)
		case m.Kind == KindImage && !plainName.MatchString(f.Name),
			m.Kind == KindSite && f.Name != ConfigFile && (!isSecret || !plainName.MatchString(secret)):
			return bad("file name %q", f.Name)
		case f.Size < 0 || f.Size > limit:
			return bad("%s has %d bytes, at most %d", f.Name, f.Size, limit)
		case f.Mode&^0o777 != 0 || isSecret && f.Mode != 0o600:
			return bad("%s has mode %o", f.Name, f.Mode)
		}
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size {
			return bad("%s has digest %q", f.Name, f.SHA256)
		}
		seen[f.Name] = true
	}
	if !seen[must] {
		return bad("it holds no %s", must)
	}
	return nil
}

// AllowImage says whether a box of this machine may take the image: ErrKind,
// ErrMachine, or ErrOlder when it is below floor, the highest Floor of the
// images that the box has accepted ("" for none).
func (m Manifest) AllowImage(machine string, floor layout.Version) error {
	switch {
	case m.Kind != KindImage:
		return fmt.Errorf("%w: it is %q, want %q", ErrKind, m.Kind, KindImage)
	case m.Machine != machine:
		return fmt.Errorf("%w: it is for %s, this box is %s", ErrMachine, m.Machine, machine)
	case floor != "" && m.Version.Compare(floor) < 0:
		return fmt.Errorf("%w: it is %s, the oldest allowed is %s", ErrOlder, m.Version, floor)
	}
	return nil
}

// AllowSite says whether a box may take the configuration: ErrKind, ErrSite
// when the box belongs to another site ("" for none yet), or ErrOlder when it
// was made before since, that of the one in use (s since 1970; 0 for none).
func (m Manifest) AllowSite(site string, since int64) error {
	switch {
	case m.Kind != KindSite:
		return fmt.Errorf("%w: it is %q, want %q", ErrKind, m.Kind, KindSite)
	case site != "" && m.Site != site:
		return fmt.Errorf("%w: it is for %s, this box is of %s", ErrSite, m.Site, site)
	case m.Unix < since:
		return fmt.Errorf("%w: a newer one is in use", ErrOlder)
	}
	return nil
}

// comment is the trusted comment of a manifest's signature: what people see
// when they look at the signature alone.
func (m Manifest) comment() string {
	if m.Kind == KindSite {
		return "komainu " + m.Kind + " " + m.Site
	}
	return "komainu " + m.Kind + " " + string(m.Version)
}
