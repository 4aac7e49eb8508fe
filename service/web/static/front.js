// The pages with jobs on them: the front page, with its forms, and one job's own page.

import "./times.js";
import { useForms } from "./forms.js";
import { followAll, followAlso } from "./jobs.js";
import { remember } from "./memory.js";

useForms((job) => {
  remember(job);
  followAlso(job.id);
});
followAll();
