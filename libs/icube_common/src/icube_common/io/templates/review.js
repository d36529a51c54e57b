"use strict";
(() => {
  const page = document.querySelector("main");
  const store = "review " + page.dataset.title + " " + page.dataset.hash;
  const articles = Array.from(document.querySelectorAll("article"));
  let decisions = {};
  try { decisions = JSON.parse(localStorage.getItem(store)) || {}; } catch (error) { decisions = {}; }

  const oneLine = (text) => text.split(/\s+/).filter(Boolean).join(" ");
  const keyOf = (article) => JSON.stringify([article.dataset.class, article.dataset.text]);

  function show() {
    for (const article of articles) {
      const decision = decisions[keyOf(article)];
      article.dataset.decision = decision ? decision.decision : "";
      article.querySelector(".decision").textContent = decision
        ? "decided: " + decision.decision + (decision.edited || decision.reason
          ? ": " + (decision.edited || decision.reason) : "")
        : "";
    }
    document.querySelector("#count").textContent = Object.keys(decisions).length + " decided on this page";
    filter();
  }

  function filter() {
    const open = document.querySelector("#open").checked;
    for (const article of articles) {
      article.hidden = open && (article.dataset.decision !== "" || article.dataset.status !== "proposed");
    }
  }

  function set(article, decision) {
    const key = keyOf(article);
    if (decision) {
      decisions[key] = { class: article.dataset.class, text: article.dataset.text, ...decision };
    } else {
      delete decisions[key];
    }
    try { localStorage.setItem(store, JSON.stringify(decisions)); } catch (error) { /* this page only, then */ }
    show();
  }

  for (const article of articles) {
    article.addEventListener("click", (event) => {
      const action = event.target.dataset.action;
      if (action === "accept") {
        set(article, { decision: "accepted" });
      } else if (action === "undo") {
        set(article, null);
      } else if (action === "reject") {
        const reason = oneLine(prompt("Why is it rejected?") || "");
        if (reason) { set(article, { decision: "rejected", reason }); }
      } else if (action === "edit") {
        const edited = oneLine(prompt("New text", article.dataset.text) || "");
        if (edited && edited !== article.dataset.text) { set(article, { decision: "edited", edited }); }
      }
    });
  }

  document.querySelector("#open").addEventListener("change", filter);
  document.querySelector("#download").addEventListener("click", () => {
    const result = { title: page.dataset.title, decisions: Object.values(decisions) };
    const name = oneLine(document.querySelector("#name").value);
    if (name) {
      const role = oneLine(document.querySelector("#role").value);
      result.reviewer = { name, role, date: new Date().toISOString().slice(0, 10) };
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(result, null, 2)], { type: "application/json" }));
    link.download = "decisions.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  show();
})();
