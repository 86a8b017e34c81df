package main

import (
	"testing"

	"komainu/tools/netlab"
)

func TestCollect(t *testing.T) {
	figures := map[string]*Figure{"apply": {}}
	const mark = netlab.Figure
	if err := collect([]byte("=== RUN\n"+netlab.Figure+"\tapply\t12.5\n    x.go:1: apply\t3\n"+netlab.Figure+"\tapply\t7.5\n"+mark+"\tapply/other\t3\nPASS\n"), mark, figures); err != nil {
		t.Fatal(err)
	}
	if got := figures["apply"].Ours; got.N != 2 || got.Median != 10 {
		t.Errorf("%+v", got)
	}
	if got := figures["apply"].peer("other"); got.N != 1 || got.Median != 3 {
		t.Errorf("the peer: %+v", got)
	}
	for _, bad := range []string{"\tapply\tsoon", "\tunknown\t1"} {
		if err := collect([]byte(mark+bad), mark, figures); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
