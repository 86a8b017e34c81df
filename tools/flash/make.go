package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"aead.dev/minisign"

	"komainu/appliance/config"
	"komainu/images/bundle"
	"komainu/images/layout"
	"komainu/images/uki"
)

func (a *app) site(flags *flag.FlagSet, args []string) error {
	key := flags.String("key", "", "private key `file`")
	out := flags.String("o", bundle.SiteName, "`file` to make")
	if err := parse(flags, args, 2); err != nil {
		return err
	}
	b, err := a.packSite(flags.Arg(0), flags.Arg(1), *key)
	if err != nil {
		return err
	}
	if err := saved(*out, 0o600, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
		return err
	}
	fmt.Fprintln(a.out, a.say("made", *out))
	return nil
}

// packSite makes the bundle of a configuration that has no errors, with every
// file of the folder of secrets.
func (a *app) packSite(path, secrets, key string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	parsed, problems := config.Parse(path, text)
	if len(problems) > 0 {
		var report bytes.Buffer
		config.Check(&report, path, a.lang)
		return nil, &fault{"bad-config", []string{report.String()}, problems}
	}
	files := []bundle.Source{{Name: bundle.ConfigFile, Mode: 0o644, Data: bytes.NewReader(text)}}
	all, err := os.ReadDir(secrets)
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	for _, e := range all {
		secret, err := os.ReadFile(filepath.Join(secrets, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		files = append(files, bundle.Source{Name: bundle.SecretsDir + e.Name(), Mode: 0o600, Data: bytes.NewReader(secret)})
	}
	private, err := a.private(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	m := bundle.Manifest{Kind: bundle.KindSite, Site: parsed.Site.Name, Unix: a.now().Unix()}
	if err := bundle.Create(&b, m, files, private); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (a *app) sign(flags *flag.FlagSet, args []string) error {
	key := flags.String("key", "", "private key `file`")
	out := flags.String("o", "", "`file` to make (default komainu-VERSION.kmb beside the image)")
	floor := flags.String("floor", "0", "oldest `version` that a box still installs once it has accepted this one")
	if err := parse(flags, args, 1); err != nil {
		return err
	}
	f, err := os.Open(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer f.Close() // only read: nothing to lose
	image, err := uki.Read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	m := bundle.Manifest{Kind: bundle.KindImage, Version: image.Version, Machine: layout.Machine, Unix: a.now().Unix()}
	if m.Floor, err = layout.ParseVersion(*floor); err != nil {
		return err
	}
	if *out == "" {
		*out = filepath.Join(filepath.Dir(flags.Arg(0)), layout.ImagePrefix+string(image.Version)+".kmb")
	}
	private, err := a.private(*key)
	if err != nil {
		return err
	}
	files := []bundle.Source{{Name: bundle.ImageFile, Mode: 0o644, Data: f}}
	if err := saved(*out, 0o644, func(w io.Writer) error { return bundle.Create(w, m, files, private) }); err != nil {
		return err
	}
	fmt.Fprintln(a.out, a.say("made", *out))
	return nil
}

// private loads a key, with the password that it asks for where there is one.
func (a *app) private(path string) (minisign.PrivateKey, error) {
	key, err := bundle.PrivateKey(path, "")
	if !errors.Is(err, bundle.ErrPassword) {
		return key, err
	}
	password, err := a.password(a.say("password", path))
	if err != nil {
		return key, err
	}
	return bundle.PrivateKey(path, password)
}

func (a *app) key(flags *flag.FlagSet, args []string) error {
	if err := parse(flags, args, 2); err != nil {
		return err
	}
	password, err := a.password(a.say("new-password"))
	if err != nil {
		return err
	}
	if password != "" {
		again, err := a.password(a.say("password-again"))
		if err != nil {
			return err
		}
		if again != password {
			return refuse("passwords")
		}
	}
	dir, name := flags.Arg(0), flags.Arg(1)
	if err := bundle.GenerateKey(dir, name, password); err != nil {
		return err
	}
	fmt.Fprintln(a.out, a.say("key-made", filepath.Join(dir, name+bundle.PrivateEnd), filepath.Join(dir, name+bundle.PublicEnd)))
	return nil
}
