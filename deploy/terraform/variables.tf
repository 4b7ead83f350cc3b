variable "name" {
  description = "Prefix of everything that is made, such as retention-prod."
  type        = string
}

variable "image" {
  description = "The image, by its digest."
  type        = string
}

variable "subnets" {
  description = "Private subnets of the tasks."
  type        = list(string)
}

variable "security_groups" {
  description = "Security groups of the tasks: they reach the database, S3, SQS and SES."
  type        = list(string)
}

variable "web_target_group_arn" {
  description = "Target group, by IP, whose health check asks /health/live."
  type        = string
}

variable "secrets" {
  description = "Secret settings, by variable: the ARN of a secret each. DATABASE_URL is that of a member of the roles of deploy/postgres. METRICS_TOKEN, SECRET_KEY and OPS_USERS reach the web process alone. SENTRY_DSN may be among them."
  type        = map(string)

  validation {
    condition     = length(setsubtract(["DATABASE_URL", "METRICS_TOKEN", "SECRET_KEY"], keys(var.secrets))) == 0
    error_message = "DATABASE_URL, METRICS_TOKEN and SECRET_KEY must be among the secrets."
  }
}

variable "owners_database_url_secret" {
  description = "ARN of the secret with the DATABASE_URL of the tables' owner, for migrations alone."
  type        = string
}

variable "settings" {
  description = "Other settings of docs/configuration.md, by variable; not those that are set here."
  type        = map(string)
  default     = {}
}

variable "longest_retention_days" {
  description = "The longest retention that a service may set."
  type        = number
  default     = 90
}

variable "backstop_days" {
  description = "Days after which S3 itself deletes a letter's file. Past the longest retention and the longest legal hold: it knows of neither."
  type        = number
  default     = 540

  validation {
    condition     = var.backstop_days > var.longest_retention_days
    error_message = "The backstop would delete files before their retention is over."
  }
}

variable "workers_least" {
  description = "Worker tasks while nothing waits."
  type        = number
  default     = 1
}

variable "workers_most" {
  description = "Worker tasks of a large night. Each may have as many connections to the database as its pool has processes."
  type        = number
  default     = 8
}

variable "messages_that_need_another_worker" {
  description = "Messages that wait, over all queues, from which on workers are added."
  type        = number
  default     = 50
}

variable "ses_identity" {
  description = "The identity in SES that EMAIL_SENDER belongs to, its domain or the address itself: no other may be sent from."
  type        = string

  validation {
    condition     = !strcontains(var.ses_identity, "*")
    error_message = "Name one identity: a wildcard would let the product send as anybody."
  }
}
