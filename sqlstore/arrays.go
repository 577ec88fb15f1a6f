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
	var b strings.Builder
	size := 2
	for i := range items {
		size += len(`"",`) + len(text(&items[i]))
	}
	b.Grow(size)
	b.WriteByte('{')
	for i := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		writeQuoted(&b, text(&items[i]))
	}
	b.WriteByte('}')
	return b.String()
}

// writeQuoted writes an element, which is never NULL because it is quoted.
func writeQuoted(b *strings.Builder, s string) {
	b.WriteByte('"')
	for {
		at := strings.IndexAny(s, `"\`)
		if at < 0 {
			break
		}
		b.WriteString(s[:at])
		b.WriteByte('\\')
		b.WriteByte(s[at])
		s = s[at+1:]
	}
	b.WriteString(s)
	b.WriteByte('"')
}

// optTextArray is a text[] where "" is NULL.
func optTextArray[T any](items []T, text func(*T) string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		if s := text(&items[i]); s == "" {
			b.WriteString("NULL")
		} else {
			writeQuoted(&b, s)
		}
	}
	b.WriteByte('}')
	return b.String()
}

// intArray is a bigint[], int[] or smallint[].
func intArray[T any](items []T, number func(*T) int64) string {
	var b strings.Builder
	b.WriteByte('{')
	var digits [20]byte
	for i := range items {
		text := strconv.AppendInt(digits[:0], number(&items[i]), 10)
		if i == 0 {
			b.Grow(2 + len(items)*(len(text)+1)) // the others are as long, mostly
		} else {
			b.WriteByte(',')
		}
		b.Write(text)
	}
	b.WriteByte('}')
	return b.String()
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
