package sqlstore

var mysqlStatements = statements{
	now: `SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`,
}
