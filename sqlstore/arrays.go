package sqlstore

import (
	"database/sql"
	"encoding/hex"
	"strconv"
	"strings"
)

// Arrays travel to PostgreSQL as text in its array syntax and are cast there ($1::text[]): the one form that
// pgx and lib/pq send alike in all their modes.

// textArray is a text[].
func textArray[T any](items []T, text func(*T) string) string {
	b := make([]byte, 0, 2+24*len(items))
	b = append(b, '{')
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, text(&items[i]))
	}
	return string(append(b, '}'))
}

// appendQuoted writes an element, which is never NULL because it is quoted.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	if strings.IndexByte(s, '"') < 0 && strings.IndexByte(s, '\\') < 0 {
		b = append(b, s...)
		return append(b, '"')
	}
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// optTextArray is a text[] where "" is NULL.
func optTextArray[T any](items []T, text func(*T) string) string {
	b := append(make([]byte, 0, 2+8*len(items)), '{')
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		if s := text(&items[i]); s == "" {
			b = append(b, "NULL"...)
		} else {
			b = appendQuoted(b, s)
		}
	}
	return string(append(b, '}'))
}

// intArray is a bigint[], int[] or smallint[].
func intArray[T any](items []T, number func(*T) int64) string {
	b := append(make([]byte, 0, 2+18*len(items)), '{')
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, number(&items[i]), 10)
	}
	return string(append(b, '}'))
}

// optIntArray is a bigint[] with NULLs.
func optIntArray[T any](items []T, number func(*T) sql.NullInt64) string {
	b := append(make([]byte, 0, 2+18*len(items)), '{')
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		if n := number(&items[i]); n.Valid {
			b = strconv.AppendInt(b, n.Int64, 10)
		} else {
			b = append(b, "NULL"...)
		}
	}
	return string(append(b, '}'))
}

// bytesArray is a bytea[] in hex, where nil is NULL.
func bytesArray[T any](items []T, data func(*T) []byte) string {
	size := 2
	for i := range items {
		size += 8 + 2*len(data(&items[i]))
	}
	b := append(make([]byte, 0, size), '{')
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		p := data(&items[i])
		if p == nil {
			b = append(b, "NULL"...)
			continue
		}
		b = append(b, `"\\x`...)
		b = hex.AppendEncode(b, p)
		b = append(b, '"')
	}
	return string(append(b, '}'))
}
