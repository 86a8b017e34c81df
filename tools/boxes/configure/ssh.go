package configure

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"komainu/appliance/control"
	"komainu/tools/boxes/scene"
)

// Key makes a key and its line of authorized_keys (sshd(8)).
func Key(name string) (ssh.Signer, string, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, "", err
	}
	p, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, "", err
	}
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p))) + " " + name, nil
}

// SSH runs a command on the box from the client, once it can log in there, and
// returns what it printed.
func SSH(ctx context.Context, s *scene.Scene, at, user string, key ssh.Signer, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	for {
		out, err := once(ctx, s, at, user, key, command)
		if err == nil {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(200 * time.Millisecond): // a server that starts doesn't tell when it will be up
		}
	}
}

func once(ctx context.Context, s *scene.Scene, at, user string, key ssh.Signer, command string) (string, error) {
	raw, err := s.Client.Dial(ctx, "tcp", at)
	if err != nil {
		return "", err
	}
	defer raw.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	// The box has made its own key just now; nobody could know it.
	conn, channels, requests, err := ssh.NewClientConn(raw, at, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		return "", err
	}
	c := ssh.NewClient(conn, channels, requests)
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	out, err := session.CombinedOutput(command)
	return string(out), err
}

// Knock opens a TCP connection to the box from the client, and ends it.
func Knock(ctx context.Context, s *scene.Scene, at string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c, err := s.Client.Dial(ctx, "tcp", at)
	if err != nil {
		return err
	}
	return c.Close()
}

// Booted is when the box was started, by its answer to `show box --json`; empty:
// there is none in it.
func Booted(answer string) string {
	var b control.Box
	// Notices of alarms may stand before and behind the answer.
	if json.NewDecoder(strings.NewReader(answer[max(0, strings.Index(answer, "{")):])).Decode(&b) != nil {
		return ""
	}
	return b.Booted.Format(time.RFC3339)
}
