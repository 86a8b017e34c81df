// Package configure plays how people give one box its network: by the questions
// of the first set-up, and by changes on the console of which one cuts the line.
// Start reading at New.
package configure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"komainu/tools/boxes"
	"komainu/tools/boxes/scene"
)

// New makes a box whose first card is on the LAN with the client; the second,
// for its line, leads nowhere, though QEMU shows a carrier there. disks are
// besides its own.
func New(ctx context.Context, name, from string, disks ...boxes.Disk) (*scene.Scene, error) {
	return scene.New(ctx, name, from, boxes.Options{NICs: []boxes.NIC{{Link: "dclan"}, {}}, Disks: disks})
}

// prompt is the console's after a command; a wizard's questions end otherwise.
const prompt = `(?m)^\S+> \z`

// Wizard logs in as the administrator of a box without configuration, answers
// its questions, and returns the page of what is good and bad.
func Wizard(ctx context.Context, s *scene.Scene) (page string, err error) {
	for _, x := range []struct{ want, answer string }{
		{`login: \z`, ""}, // PowerOn has seen it: Enter brings it again
		{`login: \z`, "admin"},
		{`new password: \z`, scene.Password},
		{`again: \z`, scene.Password},
		{`\[ja\] > \z`, "en"},
		{`(?s)this box is: .*> \z`, "town-hall"},
		{`(?s)site's name.*\n> \z`, "hinata-cho 日向町"},
		{`(?s)eth0.*eth1.*port of the line.*> \z`, "2"},
		{`(?s)line: our address.*> \z`, "10.20.7.2/29 10.20.7.1"},
		{`(?s)port of the office.*> \z`, "1"},
		{`(?s)address in the office.*> \z`, scene.BoxAddress + "/24"},
		{`(?s)box at the other side.*> \z`, ""},
		{`(?s)time servers.*> \z`, ""},
		{`(?s)port of SSH.*> \z`, ""},
		{`(?s)put this into use.* \z`, "y"},
	} {
		if x.want == `login: \z` && x.answer == "" {
			err = s.Console.Send("")
		} else if err = paged(ctx, s, x.want); err == nil {
			err = s.Console.Send(x.answer)
		}
		if err != nil {
			return "", err
		}
	}
	if err := paged(ctx, s, prompt); err != nil {
		return "", err
	}
	if _, err := s.Console.Do(ctx, "console language en"); err != nil {
		return "", err
	}
	return s.Console.Do(ctx, "check")
}

// paged waits for what a person is to answer, through the pages before it.
func paged(ctx context.Context, s *scene.Scene, want string) error {
	const more = `--More--\z`
	re := regexp.MustCompile(`(?:` + want + `)|` + more)
	for {
		got, err := s.Console.Expect(ctx, re)
		if err != nil || !strings.HasSuffix(got[0], "--More--") {
			return err
		}
		if err := s.Console.Type(" "); err != nil {
			return err
		}
	}
}

// Ping sends echo requests (RFC 792) from the client until one is answered or
// ctx ends.
func Ping(ctx context.Context, s *scene.Scene, to string) error {
	for seq := 1; ; seq++ {
		err := s.Client.Do(func() error { return echo(to, seq) })
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond): // what isn't there doesn't tell when it will be
		}
	}
}

// Echo is one echo request, for whose answer it waits a second.
func Echo(s *scene.Scene, to string) error {
	return s.Client.Do(func() error { return echo(to, 0) })
}

// echo is one request, for whose answer it waits a second.
func echo(to string, seq int) error {
	c, err := icmp.ListenPacket("ip4:icmp", scene.ClientAddress)
	if err != nil {
		return err
	}
	defer c.Close()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 4796, Seq: seq, Data: []byte("komainu")}}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	in := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(in)
		if err != nil {
			return fmt.Errorf("ping %s: no answer: %w", to, err)
		}
		r, err := icmp.ParseMessage(1, in[:n]) // 1: ICMP's protocol number
		if err != nil {
			continue
		}
		if e, ok := r.Body.(*icmp.Echo); ok && r.Type == ipv4.ICMPTypeEchoReply && e.Seq == seq && from.String() == to {
			return nil
		}
	}
}
