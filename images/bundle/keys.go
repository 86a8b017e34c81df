package bundle

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"aead.dev/minisign"
)

// PublicEnd and PrivateEnd end the names of key files.
const (
	PublicEnd  = ".pub"
	PrivateEnd = ".key"
)

// ErrPassword is a private key that needs a password, or another one.
var ErrPassword = errors.New("the private key needs its password")

// GenerateKey makes a key pair as dir/name.key and dir/name.pub. With a
// password the private key is encrypted as minisign does it (scrypt, one
// gigabyte of memory). Files that are there already are never replaced.
func GenerateKey(dir, name, password string) error {
	if !plainName.MatchString(name) {
		return fmt.Errorf("key name %q: want letters, digits, dots, dashes", name)
	}
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	secret, err := private.MarshalText()
	if password != "" {
		secret, err = minisign.EncryptKey(password, private)
	}
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	open, err := public.MarshalText()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	for _, f := range []struct {
		end  string
		text []byte
		mode fs.FileMode
	}{{PrivateEnd, secret, 0o600}, {PublicEnd, open, 0o644}} {
		if err := create(filepath.Join(dir, name+f.end), f.text, f.mode); err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
	}
	return nil
}

func create(path string, text []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode) // the user names it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// PrivateKey loads a private key; ErrPassword when it is encrypted and
// password is not the one.
func PrivateKey(path, password string) (minisign.PrivateKey, error) {
	text, err := os.ReadFile(path) // the user names it
	if err != nil {
		return minisign.PrivateKey{}, fmt.Errorf("private key: %w", err)
	}
	var key minisign.PrivateKey
	switch {
	case !minisign.IsEncrypted(text):
		err = key.UnmarshalText(text)
	case password == "":
		return key, fmt.Errorf("%w: %s", ErrPassword, path)
	default:
		if key, err = minisign.DecryptKey(password, text); err != nil {
			return key, fmt.Errorf("%w: %s: %w", ErrPassword, path, err)
		}
	}
	if err != nil {
		return key, fmt.Errorf("private key %s: %w", path, err)
	}
	return key, nil
}

// PublicKeys loads every *.pub of a folder (layout.Keys on a box), in the order
// of their names. A file that is no key is an error: a key that is silently
// missing locks a box out of its updates.
func PublicKeys(dir string) ([]minisign.PublicKey, error) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("public keys: %w", err)
	}
	var keys []minisign.PublicKey
	for _, e := range all {
		if !strings.HasSuffix(e.Name(), PublicEnd) {
			continue
		}
		k, err := minisign.PublicKeyFromFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("public key %s: %w", filepath.Join(dir, e.Name()), err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("public keys: %s holds no file *%s", dir, PublicEnd)
	}
	return keys, nil
}
