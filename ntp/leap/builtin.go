package leap

// Builtin is all leap seconds until IERS bulletin C 70 of July 2025, which
// announced none for December 2025, for boxes without a file. Past its expiry
// it still converts to TAI, but can't tell of a new leap second.
func Builtin() Table {
	// Seconds since 1900 at which TAI − UTC became 10, 11, 12, ... seconds.
	starts := [...]uint64{
		2272060800, 2287785600, 2303683200, 2335219200, 2366755200, 2398291200,
		2429913600, 2461449600, 2492985600, 2524521600, 2571782400, 2603318400,
		2634854400, 2698012800, 2776982400, 2840140800, 2871676800, 2918937600,
		2950473600, 2982009600, 3029443200, 3076704000, 3124137600, 3345062400,
		3439756800, 3550089600, 3644697600, 3692217600,
	}
	t := Table{Updated: ntp(3960835200), Expires: ntp(3991593600)}
	for i, s := range starts {
		t.Entries = append(t.Entries, Entry{At: ntp(s), Offset: 10 + i})
	}
	return t
}
