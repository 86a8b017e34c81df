package uevents

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	e, ok := Parse([]byte("add@/devices/x\x00ACTION=add\x00MODALIAS=usb:v1=2\x00\x00"))
	want := Event{"add", "/devices/x", map[string]string{"ACTION": "add", "MODALIAS": "usb:v1=2"}}
	if diff := cmp.Diff(want, e); diff != "" || !ok {
		t.Error(diff)
	}
	if _, ok := Parse([]byte("libudev\x00\xfe\xed")); ok {
		t.Error("took a message of udev's")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	c, err := Listen()
	if err != nil {
		t.Skip("no device events here: ", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := c.Run(ctx, func(Event) {}); err != nil {
			t.Error(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Run(t.Context(), func(Event) {}); err == nil {
		t.Error("ran after Close")
	}
}

// The kernel repeats the event of a device that is asked to.
func TestHostEvent(t *testing.T) {
	const device = "/sys/devices/virtual/mem/null"
	if os.Getenv("KOMAINU_VM") == "" {
		t.Skip("asks the kernel for an event that all see: only in the virtual machine")
	}
	c, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(device+"/uevent", []byte("change"), 0o200); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got Event
	if err := c.Run(ctx, func(e Event) {
		if e.Path == "/devices/virtual/mem/null" {
			got = e
			cancel()
		}
	}); err != nil {
		t.Error(err)
	}
	if got.Action != "change" || got.Vars["DEVNAME"] != "null" {
		t.Errorf("got %+v", got)
	}
}
