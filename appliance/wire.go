package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"komainu/appliance/agent"
	"komainu/appliance/config"
	"komainu/appliance/shell"
	"komainu/drivers/beat"
	"komainu/drivers/files"
	"komainu/drivers/postgres"
	"komainu/drivers/probe"
)

// wiring turns a configuration into what the shell is told: it resolves
// secrets and gives daemons the files that they need.
type wiring struct {
	folders
	file    *config.File
	secrets files.Secrets
}

// secrets of this box.
func (d folders) secrets() files.Secrets {
	return files.Secrets{Dir: filepath.Join(d.state, "secrets")}
}

func wire(d folders) (shell.Config, error) {
	text, err := os.ReadFile(d.config)
	if err != nil {
		return shell.Config{}, fmt.Errorf("configuration: %w", err)
	}
	f, problems := config.Parse(d.config, text)
	if len(problems) > 0 {
		return shell.Config{}, problems
	}
	c, err := wireFile(d, f)
	c.Digest = digest(text)
	w := &wiring{folders: d, file: f, secrets: d.secrets()}
	w.hours(&c.Spec.Ground, f)
	keys := d.keyring(f)
	c.Keys, c.Certificates = keys.keys, keys.certificates
	c.Reload = func() (shell.Reloading, error) { return reload(d, f, keys) }
	return c, err
}

// wireNetwork is what of wire needs no secret: the network.
func wireNetwork(d folders) (shell.Config, error) {
	text, err := os.ReadFile(d.config)
	if err != nil {
		return shell.Config{}, fmt.Errorf("configuration: %w", err)
	}
	f, problems := config.Parse(d.config, text)
	if len(problems) > 0 {
		return shell.Config{}, problems
	}
	c := shell.Config{Spec: agent.Spec{Site: f.Site.Name, Role: f.Site.Role, Ground: f.Ground(), LookEvery: f.Agent().LookEvery}, State: d.state, Run: d.run,
		Time: f.NTP != nil, Health: f.Health.Listen, Digest: digest(text), Lacking: d.lacking(text)}
	keys := d.keyring(f)
	c.Keys, c.Certificates = keys.keys, keys.certificates
	c.Reload = func() (shell.Reloading, error) {
		c, err := wire(d)
		if errors.Is(err, files.ErrSecret) {
			c, err = wireNetwork(d)
		}
		// Started again, it takes what it can with the secrets that are there by then.
		return shell.Reloading{Digest: c.Digest, Ground: c.Spec.Ground, Restart: true}, err
	}
	return c, nil
}

// lacking are the secrets that a configuration names and that can't be read.
func (d folders) lacking(text []byte) []string {
	secrets := d.secrets()
	var names []string
	for _, ref := range secretForm.FindAllString(string(text), -1) {
		ref = strings.Trim(ref, `"'`)
		if _, err := secrets.Resolve(ref); err != nil && !slices.Contains(names, ref) {
			names = append(names, ref)
		}
	}
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], "secret:")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// secretForm is a reference to a secret, as it stands in a configuration.
var secretForm = regexp.MustCompile(`["']secret:[A-Za-z0-9][A-Za-z0-9._-]*["']`)

// wireFile is wire for a file that has been read.
func wireFile(d folders, f *config.File) (shell.Config, error) {
	w := &wiring{folders: d, file: f, secrets: d.secrets()}
	c := shell.Config{Spec: f.Agent(), State: d.state, Run: d.run, Time: f.NTP != nil}
	w.hours(&c.Spec.Ground, f)
	for _, b := range f.Beats() {
		key, err := w.secrets.Resolve(b.Key)
		if err != nil {
			return c, err
		}
		c.Beats = append(c.Beats, beat.PathConfig{Name: b.Path, Local: b.Local, Remote: b.Remote, Interface: b.Link, Key: key})
	}
	var errs []error
	var err error
	c.Orders, err = w.orders()
	errs = append(errs, err)
	for _, k := range f.Clusters() {
		db, err := w.database(k)
		errs = append(errs, err)
		c.Databases = append(c.Databases, db)
	}
	for _, p := range f.Probes() {
		x, err := w.probe(p)
		errs = append(errs, err)
		c.Probes = append(c.Probes, x)
	}
	for _, r := range f.Refusals() {
		x, err := w.refusals(r)
		errs = append(errs, err)
		c.Refusals = append(c.Refusals, x...)
	}
	c.Health = f.Health.Listen
	return c, errors.Join(errs...)
}

// path is the file behind a reference: a secret, or a path below the state.
func (w *wiring) path(ref string) (string, error) {
	if config.IsSecret(ref) {
		return w.secrets.Path(ref)
	}
	if ref == "" || filepath.IsAbs(ref) {
		return ref, nil
	}
	return filepath.Join(w.state, ref), nil
}

func (w *wiring) read(ref string) ([]byte, error) {
	if config.IsSecret(ref) {
		return w.secrets.Resolve(ref)
	}
	p, err := w.path(ref)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(p)
}

func (w *wiring) password(ref string) (string, error) {
	b, err := w.secrets.Resolve(ref)
	return strings.TrimSpace(string(b)), err
}

func (w *wiring) certificate(cert, key string) (*tls.Certificate, error) {
	c, err1 := w.read(cert)
	k, err2 := w.read(key)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
	}
	return &pair, nil
}

func (w *wiring) authority(ref string) (*x509.CertPool, error) {
	if ref == "" {
		return nil, nil
	}
	b, err := w.read(ref)
	if err != nil {
		return nil, err
	}
	return authorities(b, ref)
}

// authorities are the certificates in PEM text, which came from ref.
func authorities(text []byte, ref string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("authority %s: no certificate in it", ref)
	}
	return pool, nil
}

func (w *wiring) orders() (*shell.Orders, error) {
	o := w.file.Orders
	cert, err := w.certificate(o.Certificate, o.Key)
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	pool, err := w.authority(o.CA)
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	out := &shell.Orders{Listen: o.Listen, Peers: map[string]string{}, TLS: &tls.Config{Certificates: []tls.Certificate{*cert}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}}
	for _, p := range w.file.Peers {
		if p.Orders.IsValid() {
			out.Peers[p.Name] = p.Orders.String()
		}
	}
	return out, nil
}

// database gives a cluster its files: certificates and the password for
// replication, readable by its own user only.
func (w *wiring) database(k config.Cluster) (shell.Database, error) {
	base, err := w.path(k.Base)
	if err != nil {
		return shell.Database{}, err
	}
	fail := func(err error) (shell.Database, error) {
		return shell.Database{}, fmt.Errorf("database %s: %w", k.Name, err)
	}
	repl, err1 := w.password(k.ReplicationPassword)
	probing, err2 := w.password(k.ProbePassword)
	if err := errors.Join(err1, err2); err != nil {
		return fail(err)
	}
	own, err := ownFolder(filepath.Join(base, "tls"), k.User)
	if err != nil {
		return fail(err)
	}
	c := postgres.Config{Name: k.Name, Tenant: k.Tenant, Bin: k.Bin, Base: base, User: k.User, Port: k.Port(), Clients: k.Clients,
		ReplicationUser: k.ReplicationUser, MaxSlotWAL: k.MaxSlotWAL, Settings: k.Settings}
	for _, l := range k.Listen {
		c.Listen = append(c.Listen, l.Addr())
	}
	for _, p := range k.Peers {
		c.Peers = append(c.Peers, netip.PrefixFrom(p, p.BitLen()))
	}
	for _, x := range []struct {
		ref, name string
		to        *string
	}{{k.Certificate, "cert.pem", &c.Cert}, {k.Key, "key.pem", &c.Key}, {k.CA, "ca.pem", &c.CA}} {
		if x.ref == "" {
			continue
		}
		b, err := w.read(x.ref)
		if err != nil {
			return fail(err)
		}
		if *x.to, err = own.put(x.name, b); err != nil {
			return fail(err)
		}
	}
	if c.PassFile, err = own.put("pgpass", []byte("*:*:*:"+k.ReplicationUser+":"+repl+"\n")); err != nil {
		return fail(err)
	}
	d := shell.Database{Name: k.Name, Config: c, Hosted: k.Hall, Archive: filepath.Join(w.state, "returns", k.Name), Password: repl, Probe: probing}
	if k.Hall {
		d.Slot = k.Slot
		d.Config.PeerSlot = postgres.ReturnSlot
	} else {
		d.Slot = postgres.ReturnSlot
		d.Config.PeerSlot = k.Slot
	}
	return d, nil
}

// folder is a folder of one OS user.
type folder struct {
	path     string
	uid, gid int
}

func ownFolder(path, name string) (folder, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return folder{}, fmt.Errorf("OS user of the server: %w", err)
	}
	f := folder{path: path}
	if f.uid, err = strconv.Atoi(u.Uid); err != nil {
		return f, err
	}
	if f.gid, err = strconv.Atoi(u.Gid); err != nil {
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return f, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return f, err
	}
	return f, os.Chown(path, f.uid, f.gid)
}

func (f folder) put(name string, b []byte) (string, error) {
	p := filepath.Join(f.path, name)
	if err := files.Replace(p, b, 0o600); err != nil {
		return "", err
	}
	return p, os.Chown(p, f.uid, f.gid)
}

// stable is the first stable address of a service.
func (w *wiring) stable(service string) string {
	for _, s := range w.file.Services {
		if s.Name == service {
			return s.VIP[0].String()
		}
	}
	return ""
}

// probe makes the two askers of a service: at the DC, and at its stable
// address as clients use it.
func (w *wiring) probe(p config.ServiceProbe) (shell.Probe, error) {
	out := shell.Probe{Service: p.Service, Every: p.Every, Timeout: p.Timeout}
	var stable netip.AddrPort
	for _, s := range w.file.Services {
		if s.Name == p.Service {
			stable = s.VIP[0]
		}
	}
	make := func(to netip.AddrPort) (func() probe.Prober, error) {
		t := probe.Target{Address: to, Timeout: p.Timeout}
		switch p.Kind {
		case "postgres":
			password, err1 := w.password(p.Password)
			pool, err2 := w.authority(p.CA)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			cfg := probe.PostgresConfig{Target: t, User: postgres.ProbeRole, Password: password, Database: "postgres", CA: pool}
			if _, err := probe.Postgres(cfg); err != nil {
				return nil, err
			}
			return func() probe.Prober { x, _ := probe.Postgres(cfg); return x }, nil // checked above
		case "http":
			return func() probe.Prober { return probe.HTTP(probe.HTTPConfig{Target: t, Path: p.Path}) }, nil
		}
		return func() probe.Prober { return probe.TCP(t) }, nil
	}
	var err1, err2 error
	out.DC, err1 = make(p.Targets[0])
	out.Stable, err2 = make(stable)
	return out, errors.Join(err1, err2)
}

func (w *wiring) refusals(r config.Refusal) ([]shell.Refusal, error) {
	var out []shell.Refusal
	x := shell.Refusal{Service: strings.Join(r.Services, ", "), Stable: w.stable(r.Services[0])}
	if r.Certificate != "" {
		if _, err := w.certificate(r.Certificate, r.Key); err != nil {
			return nil, err
		}
		// Read at every handshake, so that a renewed one needs no restart.
		x.TLS = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.certificate(r.Certificate, r.Key) }
	}
	for _, l := range r.Listen {
		x.Listen = l
		out = append(out, x)
	}
	return out, nil
}
