// Package selftest holds only a test: that vmtest's guest is what it claims.
package selftest
