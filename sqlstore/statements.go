package sqlstore

import (
	"reflect"
	"strings"
)

// statements are the texts of one dialect that differ between dialects, or are worth reading as a whole. Each dialect's file
// has its own, with {prefix} for the tables'; see postgres.go, mysql.go and sqlite.go.
type statements struct {
	now string
}

func statementsOf(d Dialect) statements {
	switch d {
	case PostgreSQL:
		return postgresStatements
	case MySQL:
		return mysqlStatements
	}
	return sqliteStatements
}

// filled is st with the tables' names in place.
func (st statements) filled(fill *strings.Replacer) statements {
	v := reflect.ValueOf(&st).Elem()
	for i := range v.NumField() {
		v.Field(i).SetString(fill.Replace(v.Field(i).String()))
	}
	return st
}
