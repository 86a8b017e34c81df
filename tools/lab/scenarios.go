package lab

import "embed"

// Scenarios holds the shipped scenario files as scenarios/NAME.txt.
//
//go:embed scenarios/*.txt
var Scenarios embed.FS
