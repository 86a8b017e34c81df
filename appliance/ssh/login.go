package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	gossh "golang.org/x/crypto/ssh"

	"komainu/appliance/accounts"
	"komainu/drivers/files"
)

// hostName is the secret that holds the host key.
const hostName = "ssh-host-ed25519"

// hostKey gives the box's own key, which is made at the first start.
func hostKey(state string) (gossh.Signer, error) {
	secrets := files.Secrets{Dir: filepath.Join(state, "secrets")}
	data, err := secrets.Resolve("secret:" + hostName)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, kerr := ed25519.GenerateKey(rand.Reader)
		block, merr := gossh.MarshalPrivateKey(key, "")
		if err := errors.Join(kerr, merr); err != nil {
			return nil, fmt.Errorf("ssh: make the host key: %w", err)
		}
		data = pem.EncodeToMemory(block)
		err = secrets.Put(hostName, data)
	}
	if err != nil {
		return nil, fmt.Errorf("ssh: host key: %w", err)
	}
	host, err := gossh.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("ssh: host key: secret:%s: %w (delete it, and a new one is made)", hostName, err)
	}
	return host, nil
}

var errDenied = errors.New("permission denied")

// config is what is negotiated with one client: no SHA-1, no CBC, no
// Diffie-Hellman groups of 1024 bits, no encrypt-and-MAC.
func (s *server) config(c *visitor) *gossh.ServerConfig {
	cfg := &gossh.ServerConfig{
		Config: gossh.Config{
			KeyExchanges: []string{gossh.KeyExchangeMLKEM768X25519, gossh.KeyExchangeCurve25519, gossh.KeyExchangeECDHP256, gossh.KeyExchangeECDHP384},
			Ciphers:      []string{gossh.CipherChaCha20Poly1305, gossh.CipherAES256GCM, gossh.CipherAES128GCM, gossh.CipherAES256CTR},
			MACs:         []string{gossh.HMACSHA256ETM, gossh.HMACSHA512ETM},
		},
		PublicKeyAuthAlgorithms: []string{
			gossh.KeyAlgoED25519, gossh.KeyAlgoSKED25519, gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
			gossh.KeyAlgoSKECDSA256, gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256,
		},
		MaxAuthTries:  triesMost,
		ServerVersion: "SSH-2.0-Komainu",
		PublicKeyCallback: func(m gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
			// Asked for every key that the client offers, so it isn't noted here; a
			// stranger's name costs the same as one with an account.
			people, _ := s.keeper.People() // an error leaves out what can't be trusted
			if !people.Find(m.User()).HasKey(key) {
				return nil, errDenied
			}
			return nil, nil
		},
		PasswordCallback: func(m gossh.ConnMetadata, password []byte) (*gossh.Permissions, error) {
			return nil, s.password(c, m.User(), string(password))
		},
		KeyboardInteractiveCallback: func(m gossh.ConnMetadata, ask gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(answers) != 1 {
				return nil, errDenied
			}
			return nil, s.password(c, m.User(), answers[0])
		},
	}
	cfg.AddHostKey(s.host)
	return cfg
}

// password answers after the delay that wrong passwords have earned, so that
// guessing costs time also when the guess is right.
func (s *server) password(c *visitor, name, password string) error {
	people, _ := s.keeper.People() // an error leaves out what can't be trusted
	a := people.Find(name)
	key := name
	if a == nil {
		key = accounts.Plain(name) // no longer than a name, so that the table stays small
	}
	if d := s.guard.Attempt(s.now(), key, a != nil, c.net); d > 0 && !s.wait(c.ctx, d) {
		return errDenied
	}
	select {
	case s.hashes <- struct{}{}:
	case <-c.ctx.Done():
		return errDenied
	}
	good := a.Right(password)
	<-s.hashes
	if !good {
		s.note(c, accounts.Entry{User: accounts.Plain(name), Operation: "login", Result: "wrong"})
		return errDenied
	}
	s.guard.Right(key, c.net)
	return nil
}
