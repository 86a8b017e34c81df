package vici

import (
	"context"
	"strconv"
	"time"
)

// VersionInfo is who answers.
type VersionInfo struct{ Daemon, Version, Sysname, Release, Machine string }

// Version asks who answers.
func (c *Client) Version(ctx context.Context) (VersionInfo, error) {
	m, err := c.call(ctx, "version", nil, "", nil)
	return VersionInfo{m.Text("daemon"), m.Text("version"), m.Text("sysname"), m.Text("release"), m.Text("machine")}, err
}

// StatsInfo is how busy charon is.
type StatsInfo struct {
	Uptime         time.Duration // since it was started, whole seconds
	Workers, Idle  int           // threads
	Scheduled      int           // jobs that wait for their time
	IKESAs         int
	HalfOpen       int // IKE SAs that are being negotiated
	QueuedCritical int // jobs that wait for a thread
	Queued         int
	Plugins        []string
}

// Stats asks how busy charon is. It takes charon's own locks: one that hangs
// doesn't answer.
func (c *Client) Stats(ctx context.Context) (StatsInfo, error) {
	m, err := c.call(ctx, "stats", nil, "", nil)
	if err != nil {
		return StatsInfo{}, err
	}
	q := m.Sub("queues")
	s := StatsInfo{Workers: number(m.Sub("workers"), "total"), Idle: number(m.Sub("workers"), "idle"), Scheduled: number(m, "scheduled"),
		IKESAs: number(m.Sub("ikesas"), "total"), HalfOpen: number(m.Sub("ikesas"), "half-open"), QueuedCritical: number(q, "critical"),
		Queued: number(q, "critical") + number(q, "high") + number(q, "medium") + number(q, "low"), Plugins: m.Texts("plugins")}
	if t, e := time.ParseInLocation("Jan 02 15:04:05 2006", m.Sub("uptime").Text("since"), time.Local); e == nil {
		s.Uptime = time.Since(t).Round(time.Second)
	}
	return s, nil
}

// number is a value that is a number; 0: it isn't there or none.
func number(m Message, name string) int {
	n, _ := strconv.Atoi(m.Text(name))
	return n
}

// LoadKey gives charon a private key (PEM) and returns what it is called there:
// the key identifier, hexadecimal.
func (c *Client) LoadKey(ctx context.Context, pem []byte) (id string, err error) {
	m, err := c.call(ctx, "load-key", Message{text("type", "any"), {Name: "data", Value: pem}}, "", nil)
	return m.Text("id"), err
}

// UnloadKey takes a private key away.
func (c *Client) UnloadKey(ctx context.Context, id string) error {
	_, err := c.call(ctx, "unload-key", Message{text("id", id)}, "", nil)
	return err
}

// GetKeys are the identifiers of the private keys.
func (c *Client) GetKeys(ctx context.Context) ([]string, error) {
	m, err := c.call(ctx, "get-keys", nil, "", nil)
	return m.Texts("keys"), err
}

// Certificate is what a loaded certificate is for.
type Certificate uint8

// The kinds of certificates.
const (
	EndEntity Certificate = iota
	Authority             // believed
	RevocationList
)

// LoadCert gives charon a certificate or revocation list (PEM or DER, one).
func (c *Client) LoadCert(ctx context.Context, kind Certificate, data []byte) error {
	typ, flag := "X509", "NONE"
	switch kind {
	case EndEntity:
	case Authority:
		flag = "CA"
	case RevocationList:
		typ = "X509_CRL"
	}
	_, err := c.call(ctx, "load-cert", Message{text("type", typ), text("flag", flag), {Name: "data", Value: data}}, "", nil)
	return err
}

// FlushCerts forgets what charon found out about certificates before, so that a
// new revocation list counts.
func (c *Client) FlushCerts(ctx context.Context) error {
	_, err := c.call(ctx, "flush-certs", nil, "", nil)
	return err
}

// ListCerts are the certificates of peers and authorities that charon holds now, DER.
func (c *Client) ListCerts(ctx context.Context) ([][]byte, error) {
	var all [][]byte
	_, err := c.call(ctx, "list-certs", Message{text("type", "X509")}, "list-cert", func(m Message) {
		all = append(all, []byte(m.Text("data")))
	})
	return all, err
}

// LoadShared gives charon a pre-shared key for the given identities; one of the
// same id is replaced.
func (c *Client) LoadShared(ctx context.Context, id string, key []byte, owners ...string) error {
	_, err := c.call(ctx, "load-shared", Message{text("id", id), text("type", "IKE"), {Name: "data", Value: key}, list("owners", owners...)}, "", nil)
	return err
}

// UnloadShared takes a pre-shared key away.
func (c *Client) UnloadShared(ctx context.Context, id string) error {
	_, err := c.call(ctx, "unload-shared", Message{text("id", id)}, "", nil)
	return err
}

// GetShared are the ids of the pre-shared keys.
func (c *Client) GetShared(ctx context.Context) ([]string, error) {
	m, err := c.call(ctx, "get-shared", nil, "", nil)
	return m.Texts("keys"), err
}

// LoadConn gives charon a connection, made by [Connection]; one of the same name
// is replaced, its security associations live on.
func (c *Client) LoadConn(ctx context.Context, conn Message) error {
	_, err := c.call(ctx, "load-conn", conn, "", nil)
	return err
}

// UnloadConn takes a connection away; its security associations live on.
func (c *Client) UnloadConn(ctx context.Context, name string) error {
	_, err := c.call(ctx, "unload-conn", Message{text("name", name)}, "", nil)
	return err
}

// GetConns are the names of the connections.
func (c *Client) GetConns(ctx context.Context) ([]string, error) {
	m, err := c.call(ctx, "get-conns", nil, "", nil)
	return m.Texts("conns"), err
}

// atOnce has a command end when its work has begun: charon 5.9.8 can lock itself
// up when it tells how it goes (strongSwan #566), and events tell it better.
func atOnce(m ...Item) Message {
	return append(m, text("timeout", "-1"), text("loglevel", "-1"))
}

// Initiate begins a new IKE SA of that connection with its child, beside what it
// has. That the work has begun is all that the answer tells.
func (c *Client) Initiate(ctx context.Context, name string) error {
	_, err := c.call(ctx, "initiate", atOnce(text("ike", name), text("child", name)), "", nil)
	return err
}

// Terminate ends every IKE SA of that connection, with its children. force: the
// peer is told, but nobody waits for it. It is no error when there is none.
func (c *Client) Terminate(ctx context.Context, name string, force bool) error {
	return c.terminate(ctx, text("ike", name), force)
}

// TerminateID ends one IKE SA.
func (c *Client) TerminateID(ctx context.Context, id uint32, force bool) error {
	return c.terminate(ctx, text("ike-id", strconv.FormatUint(uint64(id), 10)), force)
}

func (c *Client) terminate(ctx context.Context, which Item, force bool) error {
	m := Message{which}
	if force {
		m = append(m, text("force", "yes"))
	}
	_, err := c.call(ctx, "terminate", atOnce(m...), "", nil)
	if r := (*RefusedError)(nil); asRefused(err, &r) && (r.Reason == "no matching SAs to terminate found" || r.Reason == "") {
		return nil
	}
	return err
}

// Rekey makes new keys: of the IKE SA (ike), or of the child.
func (c *Client) Rekey(ctx context.Context, name string, ike bool) error {
	which := text("child", name)
	if ike {
		which = text("ike", name)
	}
	_, err := c.call(ctx, "rekey", Message{which}, "", nil)
	return err
}

// ListSAs are all IKE SAs, or those of one connection.
func (c *Client) ListSAs(ctx context.Context, name string) ([]SA, error) {
	var m Message
	if name != "" {
		m = Message{text("ike", name)}
	}
	var all []SA
	_, err := c.call(ctx, "list-sas", m, "list-sa", func(m Message) { all = append(all, sas(m)...) })
	return all, err
}
