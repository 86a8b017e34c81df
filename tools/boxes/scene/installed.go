package scene

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"komainu/images/bundle"
	"komainu/images/disk"
	"komainu/images/layout"
	"komainu/tools/boxes"
	"komainu/tools/lab"
)

// site is the box: a database host whose group never writes elsewhere, so that
// it serves without a town hall.
const site = `schema = 1
[site]
name = "dc-db"
label = "試験用装置"
role = "dc-db"
[heartbeat]
profile = "default"
key = "secret:heartbeat"
[[interface]]
name = "lan"
on = "eth0"
address = ["` + BoxAddress + `/24"]
[[peer]]
name = "dc-edge"
role = "dc-edge"
[[path]]
name = "dclan"
peer = "dc-edge"
interface = "lan"
local = "` + BoxAddress + `"
remote = "` + lab.Edge4 + `"
[[database]]
name = "resident"
group = "hinata-cho/resident"
write = "never"
listen = ["` + BoxAddress + `:5432"]
server = "` + BoxAddress + `:5432"
clients = ["10.1.4.0/24"]
peers = ["` + lab.Hall4 + `"]
certificate = "secret:service-cert"
key = "secret:service-key"
ca = "secret:ca"
replication-password = "secret:replication"
probe-password = "secret:probe"
[orders]
listen = ["` + BoxAddress + `:7443"]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
[health]
listen = ["` + Health + `"]
`

// SiteBundle is the signed bundle of the scene's box, with fresh certificates.
func SiteBundle() ([]byte, error) {
	pki, err := os.MkdirTemp("", "komainu-scene-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(pki)
	if err := lab.WritePKI(pki); err != nil {
		return nil, err
	}
	src := []bundle.Source{{Name: bundle.ConfigFile, Mode: 0o600, Data: strings.NewReader(site)}}
	secret := func(name string, b []byte) {
		src = append(src, bundle.Source{Name: bundle.SecretsDir + name, Mode: 0o600, Data: bytes.NewReader(b)})
	}
	for _, x := range [][2]string{{"box-cert", lab.SiteDB + ".pem"}, {"box-key", lab.SiteDB + "-key.pem"}, {"ca", "ca.pem"}, {"service-cert", "service.pem"}, {"service-key", "service-key.pem"}} {
		b, err := os.ReadFile(filepath.Join(pki, x[1]))
		if err != nil {
			return nil, err
		}
		secret(x[0], b)
	}
	secret("heartbeat", bytes.Repeat([]byte("ab"), 32))
	secret("probe", []byte("lab-probe"))
	secret("replication", []byte("lab-replication"))
	root, err := boxes.Repository()
	if err != nil {
		return nil, err
	}
	key, err := bundle.PrivateKey(filepath.Join(root, "out/keys/development.key"), "")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = bundle.Create(&out, bundle.Manifest{Kind: bundle.KindSite, Site: "dc-db", Unix: time.Now().Unix()}, src, key)
	return out.Bytes(), err
}

// WithSite copies the image to the file to and puts a bundle into the root of
// its EFI partition, as tools/flash does.
func WithSite(ctx context.Context, image, to string, site []byte) error {
	if err := copySparse(ctx, image, to); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	parts, err := disk.Partitions(f, disk.Geometry{Bytes: st.Size(), Sector: 512})
	if err != nil {
		return err
	}
	esp, ok := disk.Find(parts, layout.ESPType, layout.ESPName)
	if !ok {
		return errors.New("the image has no EFI partition")
	}
	if err := disk.AddFile(f, esp, 512, bundle.SiteName, site); err != nil {
		return err
	}
	return f.Close()
}

func stick(name string, files map[string]string) error {
	var all []disk.File
	for to, from := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		all = append(all, disk.File{Path: to, Data: b})
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(disk.Write(f, layout.Build{Version: "1", Machine: layout.Machine}, all), f.Close())
}

// Installed is a disk that has started, has its configuration, the
// administrator and a database with the table entry (id bigint primary key). It
// is made once for an image and a day, which takes two starts of the box.
func Installed(ctx context.Context) (string, error) {
	image, err := boxes.BuildImage(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(image), "boxes")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	sources, err := os.ReadFile(image + ".sources")
	if err != nil {
		return "", err
	}
	// The certificates of the lab are good for a week.
	sum := sha256.Sum256(append(sources, time.Now().UTC().Format(time.DateOnly)+site...))
	name := filepath.Join(dir, "installed-"+hex.EncodeToString(sum[:8])+".img")
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	old, err := filepath.Glob(filepath.Join(dir, "installed-*"))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if err := os.Remove(o); err != nil {
			return "", err
		}
	}
	if err := install(ctx, image, name); err != nil {
		return "", fmt.Errorf("install a box for tests: %w", err)
	}
	return name, nil
}

func install(ctx context.Context, image, name string) (err error) {
	tmp, err := os.MkdirTemp("", "komainu-scene-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	bundle, err := SiteBundle()
	if err != nil {
		return err
	}
	first, helper, tools := filepath.Join(tmp, "first.img"), filepath.Join(tmp, "sql"), filepath.Join(tmp, "tools.img")
	if err := errors.Join(WithSite(ctx, image, first, bundle), build(ctx, helper, "./tools/boxes/scene/sql")); err != nil {
		return err
	}
	if err := stick(tools, map[string]string{"sql": helper}); err != nil {
		return err
	}
	s, err := New(ctx, "installed", first, boxes.Options{Disks: []boxes.Disk{{Name: "tools", From: tools, Bus: boxes.USB, Plain: true}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.PowerOn(ctx); err != nil {
		return err
	}
	if err := errors.Join(s.FirstLogin(ctx), s.Shell(ctx)); err != nil {
		return err
	}
	for _, step := range []struct{ command, want string }{
		{"komainu database init resident --config " + layout.Config + " --state " + layout.State + " --run " + layout.Run, ""},
		{"mount -t vfat /dev/sda1 /mnt", ""},
		{"/mnt/sql " + layout.State + "/databases/resident/run \"create role clerk login password '" + Password + "'\" \"create table entry (id bigint primary key, note text)\" \"grant all on entry to clerk\"", "sql: done"},
		{"umount /mnt", ""},
	} {
		out, err := s.Console.Do(ctx, step.command)
		if err != nil {
			return err
		}
		if !strings.Contains(out, step.want) {
			return fmt.Errorf("%s: %s", step.command, out)
		}
	}
	if err := s.Leave(ctx); err != nil {
		return err
	}
	if err := s.Console.Send("power off"); err != nil {
		return err
	}
	if err := s.Wait(ctx); err != nil {
		return err
	}
	file, err := s.File("system")
	if err != nil {
		return err
	}
	return copySparse(ctx, file, name)
}
