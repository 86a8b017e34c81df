package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"aead.dev/minisign"
)

// Reader reads the files of a bundle whose manifest is proved.
type Reader struct {
	from     io.Reader
	manifest Manifest
	next     int
	current  *content // nil before the first file
}

// Open reads the head of a bundle and verifies the manifest's signature before
// anything in it is looked at. Errors: ErrFormat, ErrSignature, ErrKind,
// ErrTruncated, or that of r. It takes bounded memory whatever r holds.
func Open(r io.Reader, keys []minisign.PublicKey) (*Reader, error) {
	var head [len(magic) + 8]byte
	if err := fill(r, head[:], "its head"); err != nil {
		return nil, err
	}
	if string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it begins with %q", ErrFormat, head[:len(magic)])
	}
	texts, signatures := binary.BigEndian.Uint32(head[len(magic):]), binary.BigEndian.Uint32(head[len(magic)+4:])
	if texts > maxManifest || signatures > maxSignature {
		return nil, fmt.Errorf("%w: a manifest of %d bytes, a signature of %d", ErrFormat, texts, signatures)
	}
	text, signature := make([]byte, texts), make([]byte, signatures)
	if err := fill(r, text, "its manifest"); err != nil {
		return nil, err
	}
	if err := fill(r, signature, "its signature"); err != nil {
		return nil, err
	}
	comment, err := verify(text, signature, keys)
	if err != nil {
		return nil, err
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%w: its manifest: %w", ErrFormat, err)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	if comment != m.comment() {
		return nil, fmt.Errorf("%w: its signature says %q, its manifest %q", ErrSignature, comment, m.comment())
	}
	return &Reader{from: r, manifest: m}, nil
}

// verify gives the trusted comment of a signature over text by one of keys.
// The signature must be written as we write it: a text with spaces, another
// line end or another comment would verify too.
func verify(text, signature []byte, keys []minisign.PublicKey) (comment string, err error) {
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if s.Algorithm != minisign.HashEdDSA {
		return "", fmt.Errorf("%w: the signature isn't of the prehashed kind", ErrSignature)
	}
	if again, err := s.MarshalText(); err != nil || !bytes.Equal(again, signature) || s.UntrustedComment != untrusted {
		return "", fmt.Errorf("%w: the signature's text was changed", ErrSignature)
	}
	r := minisign.NewReader(bytes.NewReader(text))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	for _, k := range keys {
		if k.ID() == s.KeyID && r.Verify(k, signature) {
			return s.TrustedComment, nil
		}
	}
	return "", fmt.Errorf("%w: it names key %016X, %d keys are known", ErrSignature, s.KeyID, len(keys))
}

// Manifest is what was signed.
func (r *Reader) Manifest() Manifest { return r.manifest }

// Next gives the next file and its content. What is left of the one before is
// read and verified first. After the last file it is io.EOF, and only then the
// whole bundle is proved. Content ends with io.EOF only when it is what was
// signed, else with ErrTruncated or ErrAltered: what was read before that must
// not be used.
func (r *Reader) Next() (File, io.Reader, error) {
	if r.current != nil {
		if _, err := io.Copy(io.Discard, r.current); err != nil {
			return File{}, nil, err
		}
	}
	if r.next == len(r.manifest.Files) {
		var one [1]byte
		switch _, err := io.ReadFull(r.from, one[:]); {
		case errors.Is(err, io.EOF):
			return File{}, nil, io.EOF
		case err != nil:
			return File{}, nil, fmt.Errorf("bundle: read its end: %w", err)
		}
		return File{}, nil, fmt.Errorf("%w: there is something behind its last file", ErrAltered)
	}
	f := r.manifest.Files[r.next]
	r.next++
	r.current = &content{file: f, from: r.from, left: f.Size, sum: sha256.New()}
	return f, r.current, nil
}

// Verify reads a whole bundle and keeps nothing but its manifest.
func Verify(from io.Reader, keys []minisign.PublicKey) (Manifest, error) {
	r, err := Open(from, keys)
	if err != nil {
		return Manifest{}, err
	}
	for {
		if _, _, err := r.Next(); errors.Is(err, io.EOF) {
			return r.manifest, nil
		} else if err != nil {
			return Manifest{}, err
		}
	}
}

// content is the bytes of one file.
type content struct {
	file File
	from io.Reader
	left int64
	sum  hash.Hash
	err  error // how it ended
}

// Read gives io.EOF only when the digest is the one that was signed.
func (c *content) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if c.left == 0 {
		c.err = io.EOF
		if hex.EncodeToString(c.sum.Sum(nil)) != c.file.SHA256 {
			c.err = fmt.Errorf("%w: %s: copy the bundle anew", ErrAltered, c.file.Name)
		}
		return 0, c.err
	}
	n, err := c.from.Read(p[:min(int64(len(p)), c.left)])
	c.sum.Write(p[:n])
	c.left -= int64(n)
	switch {
	case err == nil || errors.Is(err, io.EOF) && c.left == 0:
		return n, nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		c.err = fmt.Errorf("%w: %d bytes of %s are missing: copy the bundle anew", ErrTruncated, c.left, c.file.Name)
	default:
		c.err = fmt.Errorf("bundle: read %s: %w", c.file.Name, err)
	}
	return n, c.err
}

// fill reads all of b.
func fill(r io.Reader, b []byte, what string) error {
	switch _, err := io.ReadFull(r, b); {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: in %s: copy the bundle anew", ErrTruncated, what)
	default:
		return fmt.Errorf("bundle: read %s: %w", what, err)
	}
}
