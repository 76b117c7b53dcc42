// Sorting and filtering; without it everything is there all the same.
(function () {
  "use strict";
  // The number that a cell's first line starts with: "1,204" is 1204, "−3" is -3; words come last.
  function key(cell) {
    var text = cell && cell.firstChild ? cell.firstChild.textContent.trim() : "";
    var match = /^[−-]?[\d,]*\.?\d+/.exec(text.replace(/^(over|under|<)\s*/, ""));
    return { number: match ? parseFloat(match[0].replace("−", "-").replace(/,/g, "")) : null, text: text.toLowerCase() };
  }
  function compare(a, b, numeric) {
    if (!numeric) return a.text < b.text ? -1 : a.text > b.text ? 1 : 0;
    if (a.number === null) return b.number === null ? 0 : 1;
    return b.number === null ? -1 : a.number - b.number;
  }
  document.querySelectorAll("table[data-sort]").forEach(function (table) {
    var heads = table.tHead.rows[0].cells;
    Array.prototype.forEach.call(heads, function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.append.apply(button, Array.prototype.slice.call(head.childNodes));
      head.append(button);
      button.addEventListener("click", function () {
        var numeric = head.classList.contains("n");
        var up = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : !numeric;
        Array.prototype.forEach.call(heads, function (h) { h.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        var body = table.tBodies[0];
        var rows = Array.prototype.map.call(body.rows, function (row, i) { return { row: row, key: key(row.cells[column]), i: i }; });
        rows.sort(function (a, b) {
          if (numeric && (a.key.number === null || b.key.number === null)) return compare(a.key, b.key, true) || a.i - b.i;
          return (up ? 1 : -1) * compare(a.key, b.key, numeric) || a.i - b.i;
        });
        rows.forEach(function (item) { body.append(item.row); });
      });
    });
  });
  document.querySelectorAll("[data-filter]").forEach(function (box) {
    var input = box.querySelector("input");
    var rows = document.getElementById(box.getAttribute("data-filter")).tBodies[0].rows;
    var status = box.querySelector("[role=status]");
    box.hidden = false;
    input.addEventListener("input", function () {
      var wanted = input.value.trim().toLowerCase();
      var shown = 0;
      Array.prototype.forEach.call(rows, function (row) {
        row.hidden = wanted !== "" && row.textContent.toLowerCase().indexOf(wanted) < 0;
        if (!row.hidden) shown += 1;
      });
      status.textContent = shown + " of " + rows.length + " shown";
    });
  });
  // Print shows what is folded; afterwards it is folded again.
  var opened = [];
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details[data-print]:not([open])").forEach(function (d) { d.open = true; opened.push(d); });
  });
  window.addEventListener("afterprint", function () { opened.forEach(function (d) { d.open = false; }); opened = []; });
  if ("IntersectionObserver" in window) {
    var links = {};
    document.querySelectorAll("nav.toc a").forEach(function (a) { links[a.getAttribute("href").slice(1)] = a; });
    var observer = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (!entry.isIntersecting) return;
        Object.keys(links).forEach(function (id) { links[id].removeAttribute("aria-current"); });
        if (links[entry.target.id]) links[entry.target.id].setAttribute("aria-current", "true");
      });
    }, { rootMargin: "-10% 0px -80% 0px" });
    document.querySelectorAll("section[id]").forEach(function (s) { observer.observe(s); });
  }
})();
