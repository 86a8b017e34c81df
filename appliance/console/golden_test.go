package console

// What a person reads after both lines were cut.
const statusEnglish = `
site                  hinata-cho (town hall)
time                  2026-11-22 13:05:00 +0900, up 3 d
data centre           not usable (the line): no answer on any line: main, alt
                      (for 3 min 20 s)
lines                 main down; alt down (no carrier)
alarm                 critical: the data centre can't be used [resident] for 3
                      min 19 s
alarm                 warning: no heartbeat arrives [main, alt] for 3 min 20 s
alarm                 warning: clients are not at the data centre [resident] for
                      3 min 19 s
group resident        local, reads only
  since               2026-11-22 13:01:41 +0900 (3 min 19 s ago)
  why                 no answer on any line: main, alt
  standby             resident: ready; how far behind is unknown
  reads are this old  3 min 21 s
  a promotion loses   unknown: the data centre may have written on
  return blocked by   no answer on any line: main, alt
  what to do          reads work here. If writing can't wait until the data
                      centre is back:
                      komainu service write resident --reason "..."
`

const statusJapanese = `
拠点                  hinata-cho（庁舎側装置）
時刻                  2026-11-22 13:05:00 +0900（稼働 3日）
データセンター側      利用不可（回線）：全回線で応答なし：main, alt（3分20秒継
                      続）
回線                  main 断、alt 断（リンク断）
警報                  重大：データセンターを利用できません [resident] 3分19秒
警報                  注意：ハートビートが届きません [main, alt] 3分20秒
警報                  注意：データセンターを利用していません [resident] 3分19秒
グループ resident     庁舎側（参照のみ）
  開始                2026-11-22 13:01:41 +0900（3分19秒前）
  理由                全回線で応答なし：main, alt
  待機系              resident：準備完了、遅れは不明
  参照データの古さ    3分21秒
  昇格した場合の損失  不明（データセンターで更新が続いた可能性あり）
  切戻しの妨げ        全回線で応答なし：main, alt
  対応                参照は可能です。復旧を待てず更新が必要な場合：
                      komainu service write resident --reason "..."
`
