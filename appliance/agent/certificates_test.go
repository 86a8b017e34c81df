package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCertificatesEnd walks through a certificate's time by the box's clock.
func TestCertificatesEnd(t *testing.T) {
	const day = int64(24 * time.Hour)
	c := certificates{all: []Certificate{{Name: "cert", From: 100 * day, Until: 200 * day}, {Name: "crl", List: true, From: 100 * day, Until: 200 * day}}}
	for _, x := range []struct {
		day  int64
		want map[string]Severity
	}{
		{0, map[string]Severity{"certificate-early cert": Critical, "certificate-early crl": Critical}},
		{100, map[string]Severity{}},
		{169, map[string]Severity{}},
		{170, map[string]Severity{"certificate-expires cert": Warning}},
		{193, map[string]Severity{"certificate-expires cert": Warning, "list-expires crl": Warning}},
		{200, map[string]Severity{"certificate-expired cert": Critical, "list-expired crl": Critical}},
	} {
		now := map[alarmKey]Severity{}
		c.watch(&Agent{wall: x.day * day}, now)
		got := map[string]Severity{}
		for k, s := range now {
			got[k.id+" "+k.subject] = s
		}
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Errorf("day %d (-want +got)\n%s", x.day, diff)
		}
	}
}
