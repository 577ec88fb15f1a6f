// Package ssrforacle compares the SSRF guard with an independent one, code.dny.dev/ssrf. It is a module of its own so that
// the comparison costs importers of the library nothing. It holds tests only.
package ssrforacle
