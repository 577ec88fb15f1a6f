package storetest

func randomCases() []Case { return nil }
