package update

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"komainu/images/bundle"
)

func TestHTTPS(t *testing.T) {
	b := newBench(t, "komainu-1.efi")
	good := b.pack(t, b.manifest("2"), "good")
	mux := http.NewServeMux()
	srv := httptest.NewTLSServer(mux)
	defer srv.Close()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) })
	mux.HandleFunc("/to-http", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(good)))
		_, _ = w.Write(good[:len(good)/2])
	})
	b.job.Order.Source = srv.URL + "/good"
	b.job.CA = filepath.Join(t.TempDir(), "ca.pem")
	other := httptest.NewTLSServer(nil)
	other.Close()
	write(t, b.job.CA, []byte("nothing"))
	if got := b.do(t, nil); got != "image-source" {
		t.Error(got)
	}
	write(t, b.job.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	for path, want := range map[string]string{"/none": "image-source", "/to-http": "image-source", "/round": "image-source", "/broken": "image-truncated"} {
		b.job.Order.Source = srv.URL + path
		if got := b.do(t, nil); got != want || b.images(t) != "1" {
			t.Errorf("%s: %s, %s", path, got, b.images(t))
		}
	}
	b.job.Order.Source = srv.URL + "/good"
	if got := b.do(t, nil); got != "image-step-installed" || b.images(t) != "2+3 1" {
		t.Errorf("%s, %s", got, b.images(t))
	}
}

func TestStick(t *testing.T) {
	if got := newestImage([]string{"komainu-2.kmb", "komainu-10.kmb", "komainu-site.kmb", "komainu-11.kmb.txt", "x.kmb", ".kmb"}); got != "komainu-10.kmb" {
		t.Error(got)
	}
	if got := newestImage([]string{"komainu-site.kmb"}); got != "" {
		t.Error(got)
	}
	r := &reading{&failing{}, func() error { return nil }}
	if _, err := bundle.Open(r, nil); !errors.Is(err, errSource) {
		t.Error(err)
	}
	sys := t.TempDir()
	for _, f := range []string{"block/sda/sda1/partition", "block/sdb/sdb1/partition", "block/sdb/sdb2/partition", "block/sdc/size", "block/sr0/size"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(sys, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(sys, f), nil)
	}
	for _, d := range []string{"sdb", "sdc", "sr0"} {
		write(t, filepath.Join(sys, "block", d, "removable"), []byte("1\n"))
	}
	if got := fmt.Sprint(sticks(sys)); got != "[/dev/sdb1 /dev/sdb2 /dev/sdc]" {
		t.Error(got)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("input/output error") }
