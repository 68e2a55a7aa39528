# judge.sh RULE SEED MARGIN PAIRS ITEMS METRICS: does a simple rule prefer the answer that people chose?
# A line of PAIRS is an id, the chosen and the rejected answer, apart by tabs. The seed draws three quarters of them.
awk -F '\t' -v rule="$1" -v seed="$2" -v margin="$3" -v items="$5" -v metrics="$6" '
function score(answer) {
  if (rule == "longer") return length(answer)
  if (rule == "polite") return (tolower(answer) ~ /please|thank|sorry|glad|happy/) ? 100 : 0
  return 0
}
(NR + seed) % 4 != 0 {
  right = rule == "first" || score($2) > score($3) + margin
  printf "{\"id\": \"%s\", \"cluster\": \"%s\", \"values\": {\"label_correct\": %d}}\n", $1, $1, right > items
  total += right; count++
}
END { printf "{\"l_acc\": %.4f, \"n\": %d}\n", total / count, count > metrics }
' "$4"
