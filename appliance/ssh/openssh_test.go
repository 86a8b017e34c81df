package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gossh "golang.org/x/crypto/ssh"

	"komainu/appliance/accounts"
)

// TestHostOpenSSH: the client that people have.
func TestHostOpenSSH(t *testing.T) {
	client, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no OpenSSH client here: ", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := gossh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := gossh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, func(s *server) {
		s.keeper.Book.Users = func() ([]accounts.User, error) {
			return []accounts.User{{Name: "sato", Role: "field", Keys: []string{string(gossh.MarshalAuthorizedKey(signer.PublicKey()))}}}, nil
		}
	})
	host, port, err := net.SplitHostPort(b.at)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), client, "-F", "none", "-p", port, "-i", file, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-A", "sato@"+host, "load terminal")
	c.Stdin = strings.NewReader("a = 1\n")
	if out, err := c.CombinedOutput(); err != nil || string(out) != "a = 1\n" {
		t.Errorf("%q, %v", out, err)
	}
}
