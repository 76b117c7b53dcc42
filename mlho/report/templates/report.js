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
  // The values of a curve under the pointer: the bold line, or the first one. The axes are written on the chart.
  var tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  document.querySelectorAll("svg[data-axes]").forEach(function (chart) {
    var axes = chart.getAttribute("data-axes").split(" ").map(Number);
    var names = chart.getAttribute("data-names").split("|");
    var curve = chart.querySelector("polyline.bold") || chart.querySelector("polyline.thin");
    if (!curve) return;
    var points = curve.getAttribute("points").split(" ").map(function (p) { return p.split(",").map(Number); });
    var dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    dot.setAttribute("r", "4");
    dot.setAttribute("class", "pointer");
    function value(at, i) { return axes[i + 2] + (at - axes[i]) / (axes[i + 1] - axes[i]) * (axes[i + 3] - axes[i + 2]); }
    function rounded(v) { return v.toFixed(3).replace("-", "−"); }
    function leave() { tip.hidden = true; dot.remove(); }
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("pointermove", function (event) {
      var box = chart.getBoundingClientRect();
      var x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
      if (x < axes[0] || x > axes[1]) return leave();
      var near = points.reduce(function (a, b) { return Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a; });
      if (near[1] < axes[5] || near[1] > axes[4]) return leave();
      dot.setAttribute("cx", near[0]);
      dot.setAttribute("cy", near[1]);
      chart.append(dot);
      tip.textContent = names[0] + " " + rounded(value(near[0], 0)) + " · " + names[1] + " " + rounded(value(near[1], 4));
      tip.hidden = false;
      tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = event.clientY + 18 + "px";
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
