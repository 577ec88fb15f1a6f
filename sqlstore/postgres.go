package sqlstore

var postgresStatements = statements{
	now: `SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`,
}
