// Signs in by a link whose fragment is the token: no server and no log ever sees a fragment.

const token = decodeURIComponent(location.hash.slice(1));
if (token) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.getElementById("sign-in").requestSubmit();
}
