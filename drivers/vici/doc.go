// Package vici speaks strongSwan's vici protocol (5.9.8, src/libcharon/plugins/vici/README.md):
// it gives charon the tunnels that are wanted, hears what becomes of them, and
// tells when charon is silent. It decides nothing: which tunnels there are, and
// when one is made anew, others say.
//
// Start at [Daemon] for what charon is started with, at [Client] for the calls,
// and at [Keeper] for the whole wanted state.
package vici
