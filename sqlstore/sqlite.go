package sqlstore

var sqliteStatements = statements{
	now: ``,
}
