package job

import (
	"bytes"
	"testing"
)

func TestEventSurvivesAnOpenLine(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("no newline at the end")
	want := Event{Kind: "end", Package: "komainu/x", Exit: "exit status 1", Seconds: 1.5}
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(b.Bytes(), []byte("\n"))
	if _, ok := Parse(lines[0]); ok {
		t.Error("output taken for an event")
	}
	if got, ok := Parse(lines[1]); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
}
