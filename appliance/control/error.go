// Package control is the local socket API: HTTP/1.1 with JSON under /v1/, where
// the kernel says who asks (peer credentials). It carries requests and answers
// and decides nothing but access. Start reading at Server; Status is what the
// agent tells about itself.
package control

import (
	"strings"

	"komainu/appliance/say"
)

// Error is a refusal as it travels: {"code", "where", "args"}. appliance/say
// has the sentence for Code.
type Error struct {
	Code   string   `json:"code"`
	Where  string   `json:"where,omitempty"` // group, unit, file or path that it is about
	Args   []string `json:"args,omitempty"`
	Status int      `json:"-"` // HTTP status; 0: 409, the request conflicts with the present state
}

// Text is the error in lang, "where: sentence".
func (e *Error) Text(lang string) string {
	return strings.TrimPrefix(e.Where+": "+say.Text(lang, e.Code, e.Args...), ": ")
}

func (e *Error) Error() string { return e.Text("en") }
