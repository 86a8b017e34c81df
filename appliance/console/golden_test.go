package console

// What a person reads after both lines were cut.
const statusEnglish = `
site                   hinata-cho (town-hall)
time                   2026-11-22 13:05:00 +0900, uptime 3 d
data centre usable     no: the line, no heartbeat arrives, 3 min 20 s ago
alarm                  no heartbeat arrives [main], 3 min 20 s ago
group resident         local, reads only
  since                2026-11-22 13:01:41 +0900 (3 min 19 s ago)
  why                  no heartbeat arrives
  standby              resident: ready; it is 12 kB / 2 s behind
  reads are this old   3 min 21 s
  loss if written now  unknown
  return blocked by    no heartbeat arrives; hold-down left 1 min 22 s
  what to do           reads work; if writing can't wait: komainu service write
                       resident --reason "..."
`

const statusJapanese = `
拠点                    hinata-cho (town-hall)
時刻                    2026-11-22 13:05:00 +0900, 稼働時間 3日
データセンター利用      いいえ: 回線, ハートビートが届きません, 3分20秒前
警報                    ハートビートが届きません [main], 3分20秒前
グループ resident       庁舎側（参照のみ）
  開始                  2026-11-22 13:01:41 +0900 (3分19秒前)
  理由                  ハートビートが届きません
  待機系                resident: 準備完了; 12 kB / 2秒 遅れています
  参照データの古さ      3分21秒
  今更新した場合の損失  不明
  切戻しの妨げ          ハートビートが届きません; 安定待ち残り 1分22秒
  対応                  参照は可能です。更新が必要な場合：komainu service write
                        resident --reason "..."
`
