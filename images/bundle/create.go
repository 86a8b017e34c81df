package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"aead.dev/minisign"
)

const (
	magic     = "KOMAINU1"
	untrusted = "komainu bundle" // comment of every signature, so that no byte of a bundle is free
)

// Source is a file to pack. Create reads it twice, from its start: once for
// the digest, once to write it.
type Source struct {
	Name string
	Mode uint32
	Data io.ReadSeeker
}

// Create writes a bundle of files, in their order, signed with key. Of m
// everything is the caller's but Files, which it fills in.
func Create(w io.Writer, m Manifest, files []Source, key minisign.PrivateKey) error {
	m.Files = nil
	for _, s := range files {
		h := sha256.New()
		n, err := rewound(h, s.Data)
		if err != nil {
			return fmt.Errorf("bundle: read %s: %w", s.Name, err)
		}
		m.Files = append(m.Files, File{s.Name, n, hex.EncodeToString(h.Sum(nil)), s.Mode})
	}
	if err := m.Check(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return fmt.Errorf("bundle: manifest: %w", err)
	}
	if len(text) > maxManifest {
		return fmt.Errorf("%w: the manifest has %d bytes, at most %d", ErrFormat, len(text), maxManifest)
	}
	signature, err := sign(text, m.comment(), key)
	if err != nil {
		return err
	}
	head := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(text))), uint32(len(signature))), text...) // both are bounded
	if _, err := w.Write(append(head, signature...)); err != nil {
		return fmt.Errorf("bundle: write: %w", err)
	}
	for i, s := range files {
		h := sha256.New()
		n, err := rewound(io.MultiWriter(w, h), s.Data)
		if err != nil {
			return fmt.Errorf("bundle: write %s: %w", s.Name, err)
		}
		if f := m.Files[i]; n != f.Size || hex.EncodeToString(h.Sum(nil)) != f.SHA256 {
			return fmt.Errorf("bundle: %s changed while it was packed: pack again", s.Name)
		}
	}
	return nil
}

func rewound(w io.Writer, r io.ReadSeeker) (int64, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(w, r)
}

// sign is the text of the signature; the only one that Open takes for it.
func sign(text []byte, comment string, key minisign.PrivateKey) ([]byte, error) {
	r := minisign.NewReader(bytes.NewReader(text))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, fmt.Errorf("bundle: sign: %w", err)
	}
	return r.SignWithComments(key, comment, untrusted), nil
}
