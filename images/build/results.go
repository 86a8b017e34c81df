package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"komainu/images/bundle"
	"komainu/images/disk"
	"komainu/images/layout"
	"komainu/images/root"
)

type results struct {
	image, loader, bill []byte
}

// bundleEnd ends the name of a signed bundle.
const bundleEnd = ".kmb"

// write writes all results, each whole or not at all.
func write(o options, r root.Root, made results) error {
	at := func(name string) string { return filepath.Join(o.out, name) }
	if err := replace(at(bundle.ImageFile), made.image); err != nil {
		return err
	}
	if err := replace(at("sbom.json"), made.bill); err != nil {
		return err
	}
	files, err := disk.Files(r.Build, made.loader, made.image)
	if err != nil {
		return err
	}
	err = replaceBy(at("komainu.img"), func(f *os.File) error { return disk.Write(f, r.Build, files) })
	if err != nil {
		return err
	}
	names := []string{bundle.ImageFile, "komainu.img", "sbom.json"}
	signed, err := sign(o, r.Build, made.image)
	if err != nil {
		return err
	}
	if signed != "" {
		names = append(names, signed)
	}
	if err := digests(o.out, names); err != nil {
		return err
	}
	report, err := sizes(r, made.image)
	if err != nil {
		return err
	}
	if err := replace(at("image-sizes.txt"), []byte(report)); err != nil {
		return err
	}
	fmt.Print(report)
	o.tell(fmt.Sprintf("version %s, kernel %s: %s in %s", r.Build.Version, r.Build.Kernel, strings.Join(names, ", "), o.out))
	return nil
}

// developmentKey makes a pair of keys in the default folder, once.
func developmentKey(o *options) error {
	if o.keys != "" {
		return nil
	}
	o.keys = filepath.Join(o.out, "keys")
	have, err := filepath.Glob(filepath.Join(o.keys, "*"+bundle.PublicEnd))
	if err != nil {
		return err
	}
	if len(have) == 0 {
		if err := os.MkdirAll(o.keys, 0o700); err != nil {
			return err
		}
		if err := bundle.GenerateKey(o.keys, "development", ""); err != nil {
			return err
		}
	}
	o.tell("NOTICE: the box will trust the keys in " + o.keys + ", which lie there without a password: for development only. For a release give -keys.")
	return nil
}

// sign writes the bundle for updates and returns its name, if the folder of keys
// holds one private key and no password is needed. Else people sign, with
// tools/flash.
func sign(o options, b layout.Build, image []byte) (string, error) {
	old, err := filepath.Glob(filepath.Join(o.out, layout.ImagePrefix+"*"+bundleEnd))
	if err != nil {
		return "", err
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			return "", err
		}
	}
	keys, err := filepath.Glob(filepath.Join(o.keys, "*"+bundle.PrivateEnd))
	if err != nil {
		return "", err
	}
	if len(keys) != 1 {
		o.tell(fmt.Sprintf("no bundle: %s holds %d private keys; sign komainu.efi with tools/flash", o.keys, len(keys)))
		return "", nil
	}
	key, err := bundle.PrivateKey(keys[0], "")
	if errors.Is(err, bundle.ErrPassword) {
		o.tell("no bundle: " + keys[0] + " has a password; sign komainu.efi with tools/flash")
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name := layout.ImagePrefix + string(b.Version) + bundleEnd
	m := bundle.Manifest{Kind: bundle.KindImage, Version: b.Version, Machine: b.Machine, Floor: "0", Unix: b.Unix}
	return name, replaceBy(filepath.Join(o.out, name), func(f *os.File) error {
		return bundle.Create(f, m, []bundle.Source{{Name: bundle.ImageFile, Mode: 0o644, Data: bytes.NewReader(image)}}, key)
	})
}

// digests writes what sha256sum -c reads.
func digests(dir string, names []string) error {
	var out strings.Builder
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		_ = f.Close() // only read
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		fmt.Fprintf(&out, "%s  %s\n", hex.EncodeToString(sum.Sum(nil)), name)
	}
	return replace(filepath.Join(dir, "digests"), []byte(out.String()))
}

func replace(name string, b []byte) error {
	return replaceBy(name, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

// replaceBy puts what fill writes at name when it is whole.
func replaceBy(name string, fill func(*os.File) error) error {
	part := name + ".part"
	f, err := os.Create(part)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(part, name)
}
