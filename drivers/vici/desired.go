package vici

import (
	"encoding/pem"

	"komainu/netstack/spec"
)

// Keys is what a tunnel proves itself with, and what it believes of its peer.
// Either a certificate with its key and authorities, or a pre-shared key.
type Keys struct {
	Cert, Key   []byte   // PEM: certificate of this box, and its private key
	Authorities [][]byte // PEM: whose certificates are believed; each may hold several
	CRLs        [][]byte // PEM: what these authorities have revoked; none: nothing is asked
	PSK         []byte
}

// Desired is one tunnel as charon is to have it.
type Desired struct {
	Tunnel spec.Tunnel
	Keys   Keys
}

// split is PEM text with one block each; anything else as it is.
func split(text []byte) [][]byte {
	var all [][]byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		all = append(all, pem.EncodeToMemory(block))
	}
	if all == nil {
		return [][]byte{text}
	}
	return all
}
