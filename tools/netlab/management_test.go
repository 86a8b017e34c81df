package netlab

import (
	"context"
	"fmt"
	"testing"
	"time"

	"komainu/tools/lab"
)

const managementTOML = `[[interface]]
name = "office"
on = "office"
address = ["192.168.50.1/24", "2001:db8:50::1/64"]
[[interface]]
name = "main"
on = "main"
address = ["10.20.7.1/24", "2001:db8:7::1/64"]
gateway = ["10.20.7.2", "2001:db8:7::2"]
zone = "wan"
[[interface]]
name = "maintenance"
on = "mgmt"
address = ["10.99.0.1/24", "2001:db8:99::1/64"]
zone = "management"
[[user]]
name = "sato"
role = "operator"
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw sato"]
[console]
ssh = ["maintenance:22"]
`

// TestHostNetManagement: who is on the service side or on the line reaches
// neither the management port of the box nor what is behind it; who is on the
// management network does (AT-177).
func TestHostNetManagement(t *testing.T) {
	stockOnly(t)
	p := newPlace(t)
	office, main, mgmt := p.lan("office"), p.lan("main"), p.lan("mgmt")
	clerk := p.host("clerk", office, "192.168.50.7/24", "2001:db8:50::7/64")
	outside := p.host("outside", main, "10.20.7.2/24", "2001:db8:7::2/64")
	keeper := p.host("keeper", mgmt, "10.99.0.7/24", "2001:db8:99::7/64")
	for _, at := range []string{"10.99.0.7:22", "[2001:db8:99::7]:22"} {
		greet(t, keeper, at)
	}
	p.start("192.168.50.1", managementTOML, lab.Port{Link: "office", LAN: office}, lab.Port{Link: "main", LAN: main}, lab.Port{Link: "mgmt", LAN: mgmt})
	eventually(t, time.Minute, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := keeper.Dial(ctx, "tcp", "10.99.0.1:22")
		if err == nil {
			err = c.Close()
		}
		return err
	})
	var all []attempt
	reached := 0
	for i, x := range []struct {
		from *lab.Host
		src  [2]string // IPv4, IPv6
	}{{clerk, [2]string{"192.168.50.7", "[2001:db8:50::7]"}}, {outside, [2]string{"10.20.7.2", "[2001:db8:7::2]"}}} {
		for j, to := range []string{"10.99.0.1:22", "[2001:db8:99::1]:22", "10.99.0.7:22", "[2001:db8:99::7]:22"} {
			for k, network := range []string{"tcp", "udp"} {
				a := try(t, x.from, network, fmt.Sprintf("%s:%d", x.src[j%2], 44000+100*i+10*j+k), to)
				if a.err == nil {
					reached++
				}
				all = append(all, a)
			}
		}
	}
	found, example := p.logged(t, all)
	result(t, "AT-177", reached == 0 && found == len(all),
		"from the service side and from the line: TCP and UDP, IPv4 and IPv6, to the management port and through the box to what is behind it; from the management network: SSH",
		fmt.Sprintf("%d of %d got through, %d logged: %s; SSH from the management network works", reached, len(all), found, example))
}
